"""The Stages page: chains are put together, run, changed and repeated from it."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from app import chainorders, chainview, draft
from app import chains as written
from app.pages import chains as page
from app.ui import Ui
from engine.specs.problem import ProblemError
from storage import chains, checkpoints, drafts, jobs, stages
from storage.states import State
from tests.app.conftest import Runs, Shelf

STAGES = [
    {"name": "domain", "data": {"dataset": "tickets"}},
    {"name": "taste", "data": {"dataset": "likes"}, "objective": {"kind": "dpo"}},
]
CHAIN = {"name": "tone", "model": {"id": "starter"}, "tuner": {"kind": "lora", "rank": 8}, "stages": STAGES}


@pytest.fixture
def parts(ui: Ui, shelf: Shelf) -> page.Parts:
    shelf.model()
    shelf.dataset("tickets")
    shelf.dataset("likes", row_kind="preference", rows=14)
    with gr.Blocks():
        return page.lay_out(ui)


@pytest.fixture
def chain(ui: Ui, parts: page.Parts) -> int:
    with ui.store.write() as session:
        return written.create(session, CHAIN, going=True).id


def run(ui: Ui, runs: Runs, chain: int, state: State = State.SUCCEEDED) -> None:
    claim = runs.claim()
    runs.train(claim, 12, total=12)
    if state == State.SUCCEEDED:
        runs.save(claim, 12, 0.8)
    runs.settle(claim, state, reason="done" if state == State.SUCCEEDED else "out_of_memory")
    with ui.store.write() as session:
        stages.advance(session, chain)


def stage(ui: Ui, chain: int, place: int) -> chains.Stage:
    with ui.store.read() as session:
        return chains.stages(session, chain)[place]


def shown(ui: Ui, chain: int) -> str:
    with ui.store.read() as session:
        return str(chainview.whole(ui.t, chainview.read(session, chain, chainorders.changing(session)), 0.0))


def order(ui: Ui, parts: page.Parts, verb: str, stage_id: int, chain: int) -> Any:
    return page.obey(ui, parts, f"{verb}:{stage_id}:1", str(chain), {})


def test_without_a_chain_the_page_says_what_one_is(ui: Ui, parts: page.Parts) -> None:
    found = page.open_page(ui, parts, "")
    assert found[parts.detail]["visible"] is False
    assert "No chain yet" in found[parts.nothing].value
    gone = page.open_page(ui, parts, "7")
    assert "There is no chain 7" in gone[parts.nothing].value


def test_a_chain_is_put_together_from_the_form_and_from_runs_and_started(ui: Ui, parts: page.Parts) -> None:
    made = page.make(ui, parts, " fresh ", {})[parts.selected]
    assert "No stages yet" in shown(ui, int(made))
    with ui.store.write() as session:
        draft.choose(session, {"data.dataset": "tickets", "training.epochs": 2.0, "name": "first"})
    page.add_form(ui, parts, "", made, {})
    page.add_form(ui, parts, "", made, {})
    with ui.store.write() as session:
        earlier = jobs.submit(session, kind="train", name="old", spec=stage(ui, int(made), 0).spec, lane="gpu")
    page.add_run(ui, parts, str(earlier.id), "again", made, {})
    with ui.store.read() as session:
        found = chains.stages(session, int(made))
    assert [one.name for one in found] == ["first", "first 2", "again"]
    assert found[0].spec["training"]["epochs"] == 2.0
    order(ui, parts, "later", found[0].id, int(made))
    order(ui, parts, "remove", found[2].id, int(made))
    assert [stage(ui, int(made), place).name for place in (0, 1)] == ["first 2", "first"]
    page.start(ui, parts, made, {})
    assert stage(ui, int(made), 0).job_id is not None


def test_a_stage_shows_its_run_what_it_starts_from_and_that_it_is_out_of_date(
    ui: Ui, parts: page.Parts, runs: Runs, chain: int
) -> None:
    for _ in STAGES:
        run(ui, runs, chain)
    said = shown(ui, chain)
    assert "starts from starter" in said and "starts from run 1, step 12" in said
    assert "step 12 of 12" in said and "/runs?run=2" in said and "out of date" not in said
    order(ui, parts, "repeat", stage(ui, chain, 0).id, chain)
    run(ui, runs, chain)
    said = shown(ui, chain)
    assert "out of date" in said and "Earlier runs" in said
    order(ui, parts, "follow", stage(ui, chain, 1).id, chain)
    run(ui, runs, chain)
    assert "out of date" not in shown(ui, chain)


def test_a_stage_is_changed_in_the_train_form(ui: Ui, parts: page.Parts, runs: Runs, chain: int) -> None:
    for _ in STAGES:
        run(ui, runs, chain)
    second = stage(ui, chain, 1)
    found = order(ui, parts, "change", second.id, chain)
    assert "/train" in found[parts.said]
    assert "Its settings are in the Train form" in shown(ui, chain)
    with ui.store.write() as session:
        assert draft.chosen(session)["objective.kind"] == "dpo"
        draft.choose(session, {"objective.dpo.beta": 0.3})
    order(ui, parts, "keep", second.id, chain)
    after = stage(ui, chain, 1)
    assert (after.spec["objective"]["beta"], after.spec["model"]["start_from"], after.name) == (0.3, None, "taste")
    assert "out of date" in shown(ui, chain) and "Its settings are" not in shown(ui, chain)
    refused = order(ui, parts, "keep", second.id, chain)
    assert "does not hold the settings" in refused[parts.said]


@pytest.mark.parametrize("verb", ["keep", "leave", "remove"])
def test_the_form_has_again_what_it_had_before_a_stage_came_into_it(
    ui: Ui, parts: page.Parts, runs: Runs, chain: int, verb: str
) -> None:
    for _ in STAGES:
        run(ui, runs, chain)
    first, second = (stage(ui, chain, place) for place in (0, 1))
    with ui.store.write() as session:
        draft.choose(session, {"name": "half filled", "training.epochs": 7.0})
        before = drafts.get(session, draft.PAGE)
    order(ui, parts, "change", first.id, chain)
    order(ui, parts, "change", second.id, chain)
    with ui.store.write() as session:
        assert draft.chosen(session)["objective.kind"] == "dpo"
    order(ui, parts, verb, second.id, chain)
    with ui.store.write() as session:
        assert {**drafts.get(session, draft.PAGE), "before": {}} == before
        draft.choose(session, {"training.epochs": 8.0})
    order(ui, parts, "keep", second.id, chain)
    with ui.store.read() as session:
        assert draft.chosen(session)["training.epochs"] == 8.0, "a second click changes nothing"


def test_a_form_that_was_filled_anew_since_is_left_alone(ui: Ui, parts: page.Parts, runs: Runs, chain: int) -> None:
    for _ in STAGES:
        run(ui, runs, chain)
    first, second = (stage(ui, chain, place) for place in (0, 1))
    order(ui, parts, "change", first.id, chain)
    with ui.store.write() as session:
        draft.fill_from(session, second.spec)
        draft.choose(session, {"name": "cloned since"})
    order(ui, parts, "leave", first.id, chain)
    with ui.store.read() as session:
        assert draft.chosen(session)["name"] == "cloned since"


def test_settings_that_cannot_work_are_refused_and_leave_the_stage(
    ui: Ui, parts: page.Parts, runs: Runs, chain: int
) -> None:
    run(ui, runs, chain)
    second = stage(ui, chain, 1)
    with ui.store.write() as session:
        jobs.cancel(session, second.job_id or 0)
    order(ui, parts, "change", second.id, chain)
    with ui.store.write() as session:
        draft.choose(session, {"data.dataset": "tickets", "objective.kind": "dpo"})
    refused = order(ui, parts, "keep", second.id, chain)
    assert "at-bad" in refused[parts.said] and stage(ui, chain, 1).spec == second.spec
    order(ui, parts, "leave", second.id, chain)
    assert "Its settings are" not in shown(ui, chain)


def test_a_failed_stage_offers_a_retry_and_a_running_one_nothing(
    ui: Ui, parts: page.Parts, runs: Runs, chain: int
) -> None:
    assert "data-order" not in shown(ui, chain).split("</li>")[0]
    run(ui, runs, chain, State.FAILED)
    assert "It waits for domain" in shown(ui, chain)
    assert ui.t.reason("out_of_memory", {}) in shown(ui, chain), "why it failed stands on the stage"
    first = stage(ui, chain, 0)
    assert f"retry:{first.id}" in shown(ui, chain)
    order(ui, parts, "retry", first.id, chain)
    with ui.store.read() as session:
        assert jobs.get(session, first.job_id or 0).state == State.QUEUED
    refused = order(ui, parts, "remove", first.id, chain)
    assert "in the queue or runs" in refused[parts.said]


def test_the_buttons_are_those_that_make_sense(ui: Ui, parts: page.Parts, runs: Runs, chain: int) -> None:
    def visible() -> set[str]:
        found = page.refresh(ui, parts, str(chain), {})
        return {verb for verb, button in parts.buttons.items() if found[button]["visible"]}

    assert visible() == {"stop", "yaml", "forget"}
    page.stop(ui, parts, str(chain), {})
    assert visible() == {"start", "yaml", "forget"}
    page.start(ui, parts, str(chain), {})
    for _ in STAGES:
        run(ui, runs, chain)
    assert visible() == {"yaml", "forget"}
    assert "name: tone" in page.yaml(ui, parts, str(chain), {})[parts.yaml]
    page.forget(ui, parts, str(chain), {})
    with ui.store.read() as session:
        assert chains.listing(session) == [] and len(jobs.listing(session)) == 2


def test_a_stage_added_to_a_chain_that_is_done_waits_to_be_started(
    ui: Ui, parts: page.Parts, runs: Runs, chain: int
) -> None:
    for _ in STAGES:
        run(ui, runs, chain)
    assert page.add_run(ui, parts, None, "more", str(chain), {})[parts.said] != ""
    page.add_run(ui, parts, "1", "more", str(chain), {})
    with ui.store.read() as session:
        assert stages.ready(session) == []
    page.start(ui, parts, str(chain), {})
    added = stage(ui, chain, 2)
    with ui.store.read() as session:
        assert jobs.get(session, added.job_id or 0).spec["model"]["start_from"] == "2@12"
        assert checkpoints.get(session, 2, 12).pinned


def test_a_tick_sends_only_what_changed(ui: Ui, parts: page.Parts, runs: Runs, chain: int) -> None:
    seen = page.refresh(ui, parts, str(chain), {})[parts.seen]
    assert page.refresh(ui, parts, str(chain), seen) == gr.skip()
    run(ui, runs, chain)
    again = page.refresh(ui, parts, str(chain), seen)
    assert parts.chain in again and parts.buttons["yaml"] not in again


def test_names_are_shown_as_they_are(ui: Ui, parts: page.Parts) -> None:
    with ui.store.write() as session:
        made = chains.create(session, "<img src=x>")
    with ui.store.read() as session:
        listed = chainview.listing(session, made.id, ui.t)
    assert "&lt;img" in listed and "<img" not in listed and "&lt;img" in shown(ui, made.id)


def misfits(ui: Ui, *stages: dict[str, Any]) -> list[tuple[str, str | None]]:
    with ui.store.write() as session, pytest.raises(ProblemError) as caught:
        written.create(session, {**CHAIN, "stages": list(stages)}, going=True)
    return [(one.code, one.where.field) for one in caught.value.problems]


def test_stages_that_cannot_start_on_the_one_before_are_refused_when_the_chain_is_made(
    ui: Ui, parts: page.Parts
) -> None:
    scores = {"name": "scores", "data": {"dataset": "likes"}, "objective": {"kind": "reward"}}
    assert {code for code, _ in misfits(ui, scores, STAGES[1])} == {"start_from_head"}
    soft = {"name": "soft", "data": {"dataset": "tickets"}, "tuner": {"kind": "prompt"}}
    assert {code for code, _ in misfits(ui, soft, STAGES[0])} == {"start_cannot_merge"}
    small = {**STAGES[0], "model": {"quantization": "nf4"}}
    wide = {**STAGES[1], "tuner": {"kind": "lora", "rank": 16}, "model": {"quantization": "nf4"}}
    assert {code for code, _ in misfits(ui, small, wide)} == {"start_merge_rounds", "start_from_rank"}
    with ui.store.read() as session:
        assert chains.listing(session) == []
