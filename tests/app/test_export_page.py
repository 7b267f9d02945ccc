"""The Export page: what can be chosen, started, seen and deleted."""

from __future__ import annotations

import html

import pytest

from app import exports, run_details, run_head, talk
from app.pages import export
from engine.specs.problem import ProblemError
from storage import checkpoints, jobs, models
from storage.checkpoints import NewCheckpoint
from storage.errors import NotFound
from storage.jobs import Holder, Settlement
from storage.models import NewModel
from storage.states import State

CHECKS = {
    "passed": True, "agreement": 0.9967, "kl": 0.0011, "min_agreement": 0.98, "max_kl": 0.02, "num_tokens": 612,
    "num_rows": 26, "tokens_from": {"held_out": 612}, "same_tokens": True, "format": "float16",
    "tried": [{"format": "bfloat16", "agreement": 0.9723, "kl": 0.0152}, {"format": "float16", "agreement": 0.9967, "kl": 0.0011}],
}  # fmt: skip


class Names(dict):
    """Stands for the page's parts: each part is its own name."""

    def __getattr__(self, name):
        return name


PARTS = Names()


@pytest.fixture
def tuned(ui, runs):
    with ui.store.write() as session:
        models.add(session, NewModel(name="starter", path="/models/starter", source="starter", bytes=1))
    job = runs.submit("tone")
    claim = runs.claim()
    runs.save(claim, 10, 0.5)
    runs.settle(claim, State.SUCCEEDED)
    return job


@pytest.fixture
def fully_tuned(ui, runs):
    job = runs.submit("whole", model__quantization="none")
    claim = runs.claim()
    new = NewCheckpoint(
        step=5, path="/runs/5", manifest_sha="0" * 64, bytes=9, base_path="/models/starter", quantization="none", dtype="float32",
        is_adapter=False,
    )  # fmt: skip
    with ui.store.write() as session:
        checkpoints.add(session, claim, new)
    runs.settle(claim, State.SUCCEEDED)
    return job


def settle(ui, state, **told):
    with ui.store.write() as session:
        claim, _ = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
    with ui.store.write() as session:
        return jobs.settle(session, claim, Settlement(state, **{"values": {}, **told}))


def begin(ui, target, kind="merged", base="trained"):
    chosen, said = export.start(ui, target, kind, base)
    assert said is None
    return int(chosen)


def published(ui, number):
    folder = ui.home.exports / str(number)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    files = [{"name": "model.safetensors", "bytes": 7}]
    lines = [
        "from transformers import AutoModelForCausalLM",
        "",
        "model = AutoModelForCausalLM.from_pretrained('export')",
    ]
    return {"path": str(folder), "form": "merged", "files": files, "checks": CHECKS, "lines": lines}


def detail(ui, number):
    return export.show(ui, PARTS, str(number))["detail"]


# --- choosing --------------------------------------------------------------------------------------------------------


def test_without_a_checkpoint_the_page_says_what_will_appear_here(ui):
    shown = export.show(ui, PARTS, "")
    assert ui.t("export.empty.title") in shown["detail"] and shown["form"]["visible"] is False


def test_a_quantised_run_offers_both_bases_and_says_what_each_means(ui, tuned):
    shown = export.show(ui, PARTS, "")
    assert shown["form"]["visible"] and shown["target"]["value"] == f"{tuned.id}@10" and shown["base"]["visible"]
    assert all("base:" not in value for _, value in shown["target"]["choices"])
    trained = export.choose(ui, PARTS, f"{tuned.id}@10", "merged", "trained")["meaning"]
    original = export.choose(ui, PARTS, f"{tuned.id}@10", "merged", "original")["meaning"]
    assert ui.t("export.base.trained.meaning") in trained and "98 %" in trained
    assert ui.t("export.base.original.meaning") in original and "85 %" in original  # limits are stated before measuring


def test_a_fully_tuned_run_is_offered_as_merged_alone(ui, fully_tuned):
    shown = export.choose(ui, PARTS, f"{fully_tuned.id}@5", "adapter", "original")
    assert [value for _, value in shown["kind"]["choices"]] == ["merged"] and shown["kind"]["value"] == "merged"
    assert shown["base"]["visible"] is False


def test_a_choice_survives_a_reload(ui, tuned):
    export.choose(ui, PARTS, f"{tuned.id}@10", "adapter", "trained")
    assert export.show(ui, PARTS, "")["kind"]["value"] == "adapter"


def test_the_address_can_name_a_target(ui, runs, tuned):
    runs.submit("other")
    claim = runs.claim()
    runs.save(claim, 3)
    runs.settle(claim, State.SUCCEEDED)
    assert export.show(ui, PARTS, "", target=str(tuned.id))["target"]["value"] == f"{tuned.id}@10"


def test_a_target_of_the_address_is_chosen_however_old_its_run_is(ui, runs, tuned, monkeypatch):
    monkeypatch.setattr(talk, "MOST_RUNS", 1)
    runs.submit("newer")
    shown = export.show(ui, PARTS, "", target=f"{tuned.id}@10")
    assert shown["target"]["value"] == f"{tuned.id}@10" and shown["form"]["visible"] and shown["said"] is None


@pytest.mark.parametrize("odd", ["99", "1@7", "base:starter", "<b>"])
def test_a_target_of_the_address_that_is_not_there_is_said_and_no_other_is_chosen(ui, tuned, odd):
    shown = export.show(ui, PARTS, "", target=odd)
    assert shown["target"]["value"] is None and html.escape(odd) in shown["said"]
    assert export.start(ui, None, "merged", "trained")[1] is not None


@pytest.fixture
def labelling(ui, runs):
    """A run that ended with a head of labels."""
    runs.submit("sorter")
    claim = runs.claim()
    new = NewCheckpoint(
        step=7, path="/runs/7", manifest_sha="0" * 64, bytes=9, base_path="/models/starter", quantization="none", dtype="float32",
        is_adapter=True, head="classifier",
    )  # fmt: skip
    with ui.store.write() as session:
        checkpoints.add(session, claim, new)
    return runs.settle(claim, State.SUCCEEDED)


def test_a_classifier_is_offered_for_export_and_not_for_chat(ui, labelling):
    target = f"{labelling.id}@7"
    shown = export.show(ui, PARTS, "", target=target)
    assert shown["target"]["value"] == target and shown["said"] is None
    assert "the run&#x27;s own model" in shown["meaning"] or "the run's own model" in shown["meaning"]
    with ui.store.read() as session:
        assert target not in [value for _, value in talk.choices(session, ui.t)]
        shown = run_details.saved(ui.t, session, labelling, 0.0) + run_head.links(
            ui.t, run_head.standing(session, labelling.id)
        )
    assert shown.count(f"/export?target={target}") == 2 and "/chat" not in shown
    assert begin(ui, target)


@pytest.mark.parametrize("compared", ["labels", "scores"])
def test_the_check_of_a_head_is_told_in_rows(ui, labelling, compared):
    number = begin(ui, f"{labelling.id}@7")
    told = {"compared": compared, "num_rows": 87, "num_compared": 87, "rows_from": {"held_out": 80, "evaluation": 7}}
    kept = {name: value for name, value in CHECKS.items() if name not in ("num_tokens", "tokens_from")}
    settle(ui, State.SUCCEEDED, reason="done", result={**published(ui, number), "checks": {**kept, **told}})
    shown = detail(ui, number)
    assert ui.t(f"export.agreement.{compared}") in shown and ui.t("export.compared.head") in shown
    assert ui.t("export.compared") not in shown and "held-out rows 80" in shown and "87" in shown


# --- starting --------------------------------------------------------------------------------------------------------


def test_start_queues_an_export_and_a_double_click_makes_one(ui, tuned):
    assert begin(ui, f"{tuned.id}@10") == begin(ui, f"{tuned.id}@10")
    with ui.store.read() as session:
        (job,) = jobs.listing(session, kinds=["export"])
    assert job.spec["target"] == f"{tuned.id}@10" and job.parent_id == tuned.id and job.lane == "gpu"
    assert begin(ui, f"{tuned.id}@10", base="original") != job.id


def test_the_checkpoint_of_an_export_is_kept_while_its_run_goes_on(ui, runs):
    from engine.runtime.child import Context
    from engine.runtime.trainer import Run
    from engine.specs.job import parse

    job = runs.submit("tone", training__keep_checkpoints=1)
    claim = runs.claim()
    for step in (10, 20, 30):
        runs.save(claim, step, step / 100)
    begin(ui, f"{job.id}@20")
    Run(Context(ui.home, ui.store, job, claim), parse(job.spec))._prune()
    with ui.store.read() as session:
        kept = [one.step for one in checkpoints.listing(session, job.id)]
    assert kept == [10, 20, 30], "the best, the exported and the newest"


@pytest.mark.parametrize(
    "given",
    [
        ("", "merged", "trained"),
        ("base:starter", "merged", "trained"),
        ("1@10", "gguf", "trained"),
        ("1@10", "merged", "mine"),
    ],
)
def test_what_was_not_offered_is_refused(ui, tuned, given):
    _, said = export.start(ui, *given)
    assert said
    with ui.store.read() as session:
        assert jobs.listing(session, kinds=["export"]) == []


def test_a_target_that_is_gone_and_a_form_that_does_not_fit_are_refused(ui, tuned, fully_tuned):
    assert export.start(ui, "99@1", "merged", "trained")[1]
    with pytest.raises(ProblemError), ui.store.write() as session:
        exports.submit(session, {"target": f"{fully_tuned.id}@5", "form": "adapter"})
    with pytest.raises(NotFound), ui.store.write() as session:
        exports.submit(session, {"target": "99"})


def test_a_job_alone_becomes_its_best_checkpoint(ui, tuned):
    with ui.store.write() as session:
        assert exports.submit(session, {"target": str(tuned.id)}).spec["target"] == f"{tuned.id}@10"


# --- seeing ----------------------------------------------------------------------------------------------------------


def test_an_export_under_way_shows_its_phase_and_can_be_cancelled(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    assert ui.t("export.queued") in detail(ui, number)
    assert export.obey(ui, f"cancel:{number}:1", str(number)) == (str(number), None)
    assert ui.t("export.cancelled") in detail(ui, number)


def test_a_finished_export_shows_its_check_files_folder_and_lines(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    settle(ui, State.SUCCEEDED, reason="done", result=published(ui, number))
    shown = detail(ui, number)
    assert ui.t("export.from.held_out") in shown
    assert "99.67 %" in shown and "612" in shown and "98 %" in shown and "0.02" in shown
    assert f"/files/export/{number}/model.safetensors" in shown and str(ui.home.exports / str(number)) in shown
    assert "AutoModelForCausalLM" in shown and "data-copy" in shown
    assert ui.t("export.caution") not in shown


def test_an_export_that_rests_on_few_tokens_says_so_with_the_counts(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    counts = {"held_out": 120, "evaluation": 30, "training": 380}
    caution = {
        "code": "export_few_tokens",
        "field": None,
        "line": None,
        "values": {**counts, "total": 530, "least": 500},
    }
    result = published(ui, number)
    settle(
        ui,
        State.SUCCEEDED,
        reason="done",
        result={**result, "checks": {**CHECKS, "tokens_from": counts, "caution": caution}},
    )
    shown = detail(ui, number)
    assert "120 of held-out rows, 30 of evaluation rows, 380 of training rows" in shown
    assert ui.t("export.caution") in shown and "training rows 380" in shown


def test_a_refused_export_shows_its_figures_and_the_remedy_and_no_files(ui, tuned):
    number = begin(ui, f"{tuned.id}@10", base="original")
    worse = {**CHECKS, "passed": False, "agreement": 0.81, "kl": 0.4}
    settle(
        ui,
        State.FAILED,
        reason="export_not_verified",
        values=worse,
        result={"form": "merged", "checks": worse},
        exit_code=70,
    )
    shown = detail(ui, number)
    assert "81.00 %" in shown and "0.400" in shown
    assert ui.t("export.refused.fix.original") in shown and "/files/" not in shown


def test_another_failure_shows_its_problem(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    told = {
        "code": "model_checkpoint_broken",
        "field": None,
        "line": None,
        "values": {"checkpoint": "<b>", "detail": "sha"},
    }
    settle(ui, State.FAILED, reason="model_checkpoint_broken", values={"problems": [told]}, exit_code=66)
    assert "&lt;b&gt;" in detail(ui, number) and "<b>" not in detail(ui, number)


def test_a_look_that_finds_nothing_new_draws_nothing(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    seen = export.show(ui, PARTS, str(number))["seen"]
    assert "list" not in export.look(ui, PARTS, str(number), list(seen))
    settle(ui, State.CANCELLED, reason="cancelled")
    assert ui.t("export.cancelled") in export.look(ui, PARTS, str(number), seen)["detail"]


# --- deleting --------------------------------------------------------------------------------------------------------


def test_delete_removes_the_export_with_its_files_and_nothing_else(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    settle(ui, State.SUCCEEDED, reason="done", result=published(ui, number))
    assert export.obey(ui, f"delete:{tuned.id}:1", str(number))[0] == ""  # a training run is left alone
    with ui.store.read() as session:
        assert jobs.get(session, tuned.id).id == tuned.id
    assert export.obey(ui, f"delete:{number}:2", str(number)) == ("", None)
    assert not (ui.home.exports / str(number)).exists()
    assert ui.t("export.none_yet") in export.show(ui, PARTS, "")["list"]


def test_an_export_under_way_is_not_deleted(ui, tuned):
    number = begin(ui, f"{tuned.id}@10")
    assert export.obey(ui, f"delete:{number}", str(number))[1] is not None


@pytest.mark.parametrize("chosen", ["99", "x", "-1", "1;", "9" * 40])
def test_an_address_that_names_no_export_shows_the_form(ui, tuned, chosen):
    assert export.show(ui, PARTS, chosen)["form"]["visible"] is True


def test_what_cannot_be_merged_is_offered_as_an_adapter_alone_and_refused_merged(ui, runs):
    job = runs.submit("prefix", tuner__kind="prefix")
    claim = runs.claim()
    runs.save(claim, 10, 0.5)
    runs.settle(claim, State.SUCCEEDED)
    shown = export.choose(ui, PARTS, f"{job.id}@10", "merged", "trained")
    assert [value for _, value in shown["kind"]["choices"]] == ["adapter"] and shown["kind"]["value"] == "adapter"
    with ui.store.write() as session, pytest.raises(ProblemError) as refused:
        exports.submit(session, {"target": str(job.id), "form": "merged"})
    assert [one.code for one in refused.value.problems] == ["spec_export_cannot_merge"]
