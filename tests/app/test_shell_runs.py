"""The Runs page: what a tick sends, what the buttons ask, and what a run's panels say."""

from __future__ import annotations

import itertools
import json
import re

import gradio as gr
import pytest

from app import draft, joblog, run_actions, run_details, run_head, run_list, run_page
from app.language import text
from app.pages import runs as layout
from app.run_list import Sparks
from app.run_page import Page, Parts
from engine.objectives import OBJECTIVES
from engine.specs.problem import Problem, Where
from engine.tuners import TUNERS
from storage import drafts, jobs, metrics
from storage.errors import NotFound
from storage.states import State

T = text("en")


@pytest.fixture
def parts(ui) -> Parts:
    with gr.Blocks():
        return layout.lay_out(ui)


@pytest.fixture
def page(ui, parts) -> Page:
    return Page(ui, parts, Sparks())


@pytest.fixture
def show(page):
    def refreshed(selected, overlaid=(), seen=None):
        return run_page.refresh(page, str(selected), list(overlaid), seen or {})

    return refreshed


class Address:
    """The part of a request that a page reads."""

    def __init__(self, **query: str) -> None:
        self.query_params = query


def finished(runs, name="tone", upto=4, **more):
    job = runs.submit(name)
    claim = runs.claim()
    runs.train(claim, upto, total=upto)
    runs.save(claim, upto, 0.5)
    return runs.settle(claim, State.SUCCEEDED, **more) and job


# --- showing -------------------------------------------------------------------------------------------------------


def test_an_empty_store_says_what_will_appear_and_how(show, parts):
    said = show("")[parts.nothing]
    assert "No runs yet" in said and "/train" in said


def test_a_tick_on_an_unchanged_store_sends_nothing(show, parts, runs):
    job = finished(runs)
    first = show(job.id)
    again = show(job.id, seen=first[parts.seen])
    assert again == gr.skip()


def test_a_tick_sends_only_the_panels_that_changed(show, parts, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.train(claim, 4, total=10)
    seen = show(job.id)[parts.seen]
    runs.train(claim, 5, first=5, total=10)
    updates = show(job.id, seen=seen)
    assert parts.head in updates and parts.runs in updates
    assert parts.panels["curves"] not in updates and parts.panels["settings"] not in updates


def test_the_address_chooses_run_and_overlays(ui, page, parts, show, runs):
    one, two = finished(runs, "one"), finished(runs, "two")
    updates = run_page.opened(page, Address(run=str(one.id), **{"with": f"{two.id},x,{one.id}"}))
    assert updates[parts.selected] == str(one.id)
    assert "one" in updates[parts.head]
    assert updates[parts.overlay]["value"] == [str(two.id)]
    assert f"[{one.id}, {two.id}]" in updates[parts.panels["curves"]]


def test_without_an_address_the_newest_run_is_shown(ui, page, parts, show, runs):
    finished(runs, "old")
    new = finished(runs, "new")
    assert run_page.opened(page, Address())[parts.selected] == str(new.id)


@pytest.mark.parametrize("asked", ["999", "x", "-1", "9" * 40, "1; drop table job", "<script>"])
def test_a_run_that_is_not_there_is_said_so(ui, page, parts, show, runs, asked):
    finished(runs)
    updates = run_page.opened(page, Address(run=asked))
    assert parts.head in updates or "There is no run 999" in updates[parts.nothing]


def test_a_run_deleted_elsewhere_disappears_from_the_page(ui, show, parts, runs):
    job = finished(runs)
    seen = show(job.id)[parts.seen]
    with ui.store.write() as session:
        jobs.delete(session, job.id)
    updates = show(job.id, seen=seen)
    assert updates[parts.detail]["visible"] is False


def test_the_same_store_shows_the_same_in_a_second_browser(show, parts, runs):
    job = finished(runs)
    one, two = show(job.id), show(job.id)
    assert one[parts.head] == two[parts.head] and one[parts.panels["log"]] == two[parts.panels["log"]]


def test_a_nasty_name_is_escaped_wherever_it_stands(ui, show, parts, runs):
    job = runs.submit("<img src=x onerror=alert(1)>")
    updates = show(job.id)
    shown = "".join(str(value) for value in updates.values() if isinstance(value, str))
    assert "&lt;img" in shown and "<img" not in shown


# --- asking --------------------------------------------------------------------------------------------------------


def ask(page, name, job):
    return run_actions.ask(page, name, str(job.id), [], {})


def test_a_running_run_can_be_paused_stopped_and_cancelled(ui, page, parts, show, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.train(claim, 2, total=4)
    updates = show(job.id)
    offered = {
        name
        for name, button in parts.buttons.items()
        if isinstance(updates.get(button), dict) and updates[button]["visible"]
    }
    assert offered == {"pause", "stop", "cancel"}
    ask(page, "pause", job)
    ask(page, "stop", job)
    ask(page, "cancel", job)
    with ui.store.read() as session:
        flags = jobs.flags(session, claim)
    assert (flags.pause, flags.stop, flags.cancel) == (True, True, True)


def test_a_paused_run_is_resumed(ui, page, parts, show, runs):
    job = runs.submit()
    with ui.store.write() as session:
        jobs.hold(session, job.id)
    assert show(job.id)[parts.buttons["resume"]]["visible"]
    ask(page, "resume", job)
    with ui.store.read() as session:
        assert not jobs.get(session, job.id).held


def test_a_failed_run_says_why_and_can_be_tried_again(ui, page, parts, show, runs):
    job = runs.submit()
    runs.settle(runs.claim(), State.FAILED, "non_finite", values={"name": "loss", "step": 7})
    said = show(job.id)[parts.panels["remarks"]]
    assert "was not a number at step 7" in said and "learning rate ten times smaller" in said
    ask(page, "retry", job)
    with ui.store.read() as session:
        assert jobs.get(session, job.id).state == State.QUEUED


def test_what_is_not_possible_is_refused_with_a_sentence(ui, page, parts, show, runs):
    job = finished(runs)
    assert "already ended" in ask(page, "cancel", job)[parts.said]
    assert "failed and cancelled" in ask(page, "retry", job)[parts.said]


def test_a_run_is_renamed_and_an_empty_name_refused(ui, page, parts, show, runs):
    job = finished(runs)
    assert "needs a name" in run_actions.rename(page, "  ", str(job.id), [], {})[parts.said]
    updates = run_actions.rename(page, "  better  ", str(job.id), [], {})
    assert "<h2>better</h2>" in updates[parts.head]


def test_cloning_fills_the_form_of_the_train_page(ui, runs):
    job = finished(runs)
    assert "/train" in run_actions.clone(ui, str(job.id))
    with ui.store.read() as session:
        assert draft.chosen(session)["data.dataset"] == "tickets"


def test_training_further_starts_from_the_best_checkpoint(ui, runs):
    job = finished(runs)
    run_actions.go_on(ui, str(job.id))
    with ui.store.read() as session:
        kept = drafts.get(session, "train")["set"]
    assert kept["model.start_from"] == f"{job.id}@4" and kept["name"] == "tone further"


@pytest.mark.parametrize("selected", ["", "x", "99", "9" * 30])
def test_a_run_that_another_tab_has_deleted_is_refused_with_a_sentence(ui, page, parts, show, selected):
    said = [
        run_actions.ask(page, "cancel", selected, [], {})[parts.said],
        run_actions.begin_rename(page, selected)[parts.said],
        run_actions.rename(page, "new", selected, [], {})[parts.said],
        run_actions.clone(ui, selected),
        run_actions.go_on(ui, selected),
        run_actions.delete(page, None, selected)[parts.said],
    ]
    assert all("There is no job" in one for one in said)


def test_deleting_takes_two_clicks_and_names_the_size(ui, page, parts, show, runs):
    job = finished(runs)
    folder = ui.home.runs / str(job.id)
    folder.mkdir()
    (folder / "weights").write_bytes(b"x" * 2500)
    first = run_actions.delete(page, None, str(job.id))
    assert first[parts.armed] == job.id and "2.5 kB" in first[parts.said]
    other = run_actions.delete(page, job.id + 1, str(job.id))
    assert other[parts.armed] == job.id, "a click that armed another run deletes nothing"
    second = run_actions.delete(page, job.id, str(job.id))
    assert second[parts.armed] is None and not folder.exists()
    with ui.store.read() as session, pytest.raises(NotFound):
        jobs.get(session, job.id)


@pytest.mark.parametrize(("kind", "words"), [("export", "Export 2 of run 1"), ("train", "Run 2 goes on from run 1")])
def test_what_a_run_is_needed_for_is_said_when_it_is_deleted(ui, page, parts, show, runs, kind, words):
    job = runs.submit()
    runs.settle(runs.claim(), State.SUCCEEDED)
    with ui.store.write() as session:
        options = jobs.SubmitOptions(parent_id=job.id)
        jobs.submit(session, kind=kind, name="x", spec={}, lane="gpu", options=options)
    assert words in run_actions.delete(page, job.id, str(job.id))[parts.said]


def test_a_run_that_is_not_over_cannot_be_deleted(ui, page, parts, show, runs):
    job = runs.submit()
    said = run_actions.delete(page, job.id, str(job.id))[parts.said]
    assert "cannot be deleted" in said


# --- words ---------------------------------------------------------------------------------------------------------


def words_of(job, position=1, now=0.0):
    return run_list.state_words(T, job, position, now)


def test_each_state_has_its_words(ui, runs):
    job = runs.submit()
    assert words_of(job) == ("queued 1", "waiting")
    with ui.store.write() as session:
        assert words_of(jobs.hold(session, job.id)) == ("held", "waiting")
        jobs.unhold(session, job.id)
    claim = runs.claim()
    runs.train(claim, 1, total=2)
    with ui.store.write() as session:
        assert words_of(jobs.get(session, job.id)) == ("training", "accent")
        assert words_of(jobs.pause(session, job.id))[0] == "saving, then pausing"
        assert words_of(jobs.stop_and_keep(session, job.id))[0] == "saving, then stopping"
        assert words_of(jobs.cancel(session, job.id))[0] == "cancelling"
    assert words_of(runs.settle(claim, State.FAILED, "out_of_memory")) == ("out of memory", "bad")


def test_a_stopped_run_reads_as_kept_and_a_paused_one_as_paused(ui, runs):
    runs.submit()
    claim = runs.claim()
    with ui.store.write() as session:
        jobs.pause(session, claim.job_id)
    paused = runs.settle(claim, "requeue", "stopped", counts=False)
    assert words_of(paused) == ("paused", "waiting")
    runs.submit("other")
    kept = runs.settle(runs.claim(), State.SUCCEEDED, "stopped_at_step")
    assert words_of(kept) == ("stopped, kept", "good")


def test_methods_are_named_as_people_name_them():
    assert (
        run_list.method(T, {"objective": {"kind": "sft"}, "tuner": {"kind": "lora"}, "model": {"quantization": "nf4"}})
        == "SFT · QLoRA"
    )
    assert (
        run_list.method(T, {"objective": {"kind": "dpo"}, "tuner": {"kind": "full"}, "model": {"quantization": "none"}})
        == "DPO · Full"
    )


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_objective_and_tuner_has_a_name_on_every_form_of_the_base(language):
    t = text(language)
    for objective, tuner, base in itertools.product(OBJECTIVES, TUNERS, ("none", "int8", "nf4")):
        spec = {"objective": {"kind": objective}, "tuner": {"kind": tuner}, "model": {"quantization": base}}
        said = run_list.method(t, spec)
        assert not re.search(r"[a-z]\.[a-z]|_|[:：]", said), said
        assert len(said) < 48, said


def test_an_empty_spec_does_not_break_the_list(ui, show, parts):
    with ui.store.write() as session:
        job = jobs.submit(session, kind="train", name="bare", spec={}, lane="gpu")
    assert "bare" in show(job.id)[parts.runs]


def test_a_run_that_ended_before_its_first_point_tells_its_problem_once_and_waits_for_nothing(ui, runs, show, parts):
    job = runs.submit()
    found = {"count": 1, "fewest": 2, "most": 9}
    values = {"problems": [Problem("data_label_count", Where("data.max_length"), found).as_dict()], **found}
    runs.settle(runs.claim(), State.FAILED, "data_label_count", values=values)
    updates = show(job.id)
    said = updates[parts.panels["remarks"]]
    assert said.count("The training rows have 1 different labels") == 1
    assert "data.max_length" not in said and "Longest row" in said
    assert updates[parts.panels["curves"]] == "" and "loss" not in updates[parts.head]


# --- panels --------------------------------------------------------------------------------------------------------


def test_the_head_shows_step_time_left_and_figures(ui, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.train(claim, 5, total=10, tokens_per_second=lambda step: 250.0, memory_bytes=lambda step: 1.8e9)
    runs.save(claim, 5, 0.5, num_bytes=19_800_000)
    with ui.store.read() as session:
        shown = run_head.head(ui, run_head.standing(session, job.id), 0.0)
    for word in ("step 5 of 10", "epoch 1.5 of 3", "left", "0.4", "best so far", "step 5", "19.8 MB", "250", "1.8 GB"):
        assert word in shown, word


def test_the_log_tells_events_as_sentences_and_the_last_output(ui, runs):
    job = finished(runs)
    ui.home.log(job.id).write_text("first\n" + "x" * 50_000 + "\n 10%|#\r 50%|##\r100%|###\nlast <b>\n")
    with ui.store.read() as session:
        shown = run_details.happened(ui, session, job, 0.0)
    for word in (
        "Queued.",
        "Attempt 1 taken by the worker on laptop.",
        "Checkpoint saved at step 4 (1.0 kB).",
        "Done.",
        "last &lt;b&gt;",
        "100%|###",
    ):
        assert word in shown, word
    assert "first" not in shown and "50%|" not in shown


def test_no_event_that_the_store_writes_is_without_a_sentence(ui, runs):
    job = runs.submit()
    with ui.store.write() as session:
        jobs.hold(session, job.id)
        jobs.resume(session, job.id)
        jobs.set_priority(session, job.id, 3)
        jobs.rename(session, job.id, "new")
    claim = runs.claim()
    runs.save(claim, 1, 0.4)
    with ui.store.write() as session:
        jobs.pause(session, job.id)
        jobs.stop_and_keep(session, job.id)
    runs.settle(claim, "requeue", "killed", values={"signal": "SIGKILL"})
    with ui.store.write() as session:
        jobs.cancel(session, job.id)
        jobs.retry(session, job.id)
    with ui.store.read() as session:
        kinds = {one.kind for one in jobs.events(session, job.id)}
        sentences = [joblog.sentence(T, one) for one in jobs.events(session, job.id)]
    assert len(kinds) >= 12
    assert not [sentence for sentence in sentences if sentence in kinds or "{" in sentence or "event." in sentence]


def test_the_log_says_why_with_the_values_of_the_reason(ui, runs):
    job = runs.submit()
    runs.settle(runs.claim(), "requeue", "killed", values={"signal": "SIGKILL"})
    runs.settle(runs.claim(), "failed", "diverged", values={"step": 7, "name": "grad_norm"})
    with ui.store.read() as session:
        told = " ".join(joblog.sentence(T, one) for one in jobs.events(session, job.id))
    assert "SIGKILL" in told and "7" in told and "{" not in told


def test_checkpoints_lead_to_chat_and_export_and_the_best_is_marked(ui, runs):
    job = runs.submit()
    claim = runs.claim()
    runs.save(claim, 2, 0.4)
    runs.save(claim, 4, 0.6)
    with ui.store.read() as session:
        shown = run_details.saved(T, session, job, 0.0)
    assert shown.index(f"/chat?target={job.id}@4") < shown.index(">best<") < shown.index(f"/export?target={job.id}@2")


def test_answers_stand_side_by_side_and_equal_ones_are_marked(ui, runs):
    answers = [{"prompt": "<hi>", "expected": "yes", "base": "no", "tuned": "yes\n"}]
    job = finished(runs, result={"answers": answers})
    with ui.store.read() as session:
        shown = run_details.answers(T, jobs.get(session, job.id))
    assert "&lt;hi&gt;" in shown and shown.count("at-same") == 1
    assert "No answers yet" in run_details.answers(T, job)


def test_the_settings_show_what_is_different_from_an_overlaid_run(runs):
    one, two = runs.submit("one"), runs.submit("two", training__learning_rate=1e-3, tuner__rank=64)
    shown = run_details.settings(T, one, [two])
    assert (
        "training.learning_rate" in shown
        and "0.001" in shown
        and "tuner.rank" in shown
        and "data.dataset" not in shown.split("at-yaml")[0]
    )
    assert run_details.differences(one.spec, one.spec) == []
    assert run_details.differences({"a": {"b": 1}}, {"c": 2}) == [("a.b", 1, None), ("c", None, 2)]


def test_the_sparkline_of_an_ended_run_is_read_once(ui, runs, monkeypatch):
    job = finished(runs)
    sparks, read = Sparks(), []
    monkeypatch.setattr(run_list, "_points", lambda session, job_id, name: read.append(job_id) or ([1.0], 1.0))
    for _ in range(3):
        with ui.store.read() as session:
            sparks.of(session, job)
    assert read == [job.id]


def test_the_words_for_the_charts_are_complete(show, parts, runs):
    job = runs.submit(objective__kind="dpo")
    panel = show(job.id)[parts.panels["curves"]]
    told = json.loads(
        panel.split('data-curves="')[1].split('"></div>')[0].replace("&quot;", '"').replace("&#x27;", "'")
    )
    assert not [
        one for one in told["charts"] if one["title"].startswith("chart.") or one["caption"].startswith("chart.")
    ]
    assert not [word for word in told["words"].values() if word.startswith("chart.")]


def test_the_time_left_is_reckoned_from_the_newest_attempt(ui, runs):
    job = runs.submit()
    claim = runs.claim()
    with ui.store.read() as session:
        assert metrics.pace_s(session, job.id) is None
    runs.train(claim, 1, total=10)
    with ui.store.read() as session:
        assert metrics.pace_s(session, job.id) is None, "one point has no pace"
    runs.train(claim, 4, first=2, total=10)
    with ui.store.read() as session:
        pace = metrics.pace_s(session, job.id)
    assert pace is not None and 0 <= pace < 60
    runs.settle(claim, "requeue", "stopped", counts=False)
    again = runs.claim()
    runs.train(again, 1, total=10)
    with ui.store.read() as session:
        assert metrics.pace_s(session, job.id) is None
