"""The Train page: the form survives, follows its choices with reasons, and starts one run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import gradio as gr
import pytest

from app import filling, form, runcard, searching, submission, trainform, trials
from app.form import settings
from app.pages import train
from app.pages.train import Parts
from app.panel import Panel
from app.trainform import TrainForm
from app.ui import Ui
from engine.objectives import OBJECTIVES
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from engine.tuners import TUNERS
from storage import checkpoints, datasets, jobs, models, requests
from storage.checkpoints import NewCheckpoint
from storage.models import NewModel
from storage.states import State
from tests.fakes.echo import EchoObjective

PLAN: dict[str, Any] = {
    "steps": 30, "steps_per_epoch": 10, "train_rows": 10, "eval_rows": 2, "test_rows": 0, "total_tokens": 1000,
    "trained_tokens": 310, "trainable": 4_900_000, "parameters": 135_000_000, "cut_rows": 1, "cut_answers_share": 0.004,
    "longest_row_tokens": 600, "left_out_rows": 0, "problems": [], "warnings": [],
}  # fmt: skip


class Page:
    """The page's components and what its handlers return, without a browser."""

    def __init__(self, ui: Ui) -> None:
        with gr.Blocks():
            self.form: TrainForm = trainform.build(ui.t)
            buttons = [gr.Button() for _ in range(4)]
            panels = [Panel(), Panel(), Panel()]
            self.parts = Parts(panels[0], *buttons, *panels[1:], gr.State(), gr.State(), gr.Timer())
            self.form.panels["differences"] = Panel()
        self.ui = ui

    def open(self, **query: str) -> dict[str, Any]:
        """What the page shows once it was opened: what was built, and over it what is told."""
        told = self._named(train.open_form(self.ui, self.form, query))
        built = {path: trainform._shown(path, self.form.built, self.ui.t) for path in self.form.fields}
        return {**told, **{path: {**shown, **told.get(path, {})} for path, shown in built.items()}}

    def set(self, path: str, value: Any) -> dict[str, Any]:
        return self._named(train.change(self.ui, self.form, self.parts, path, value))

    def order(self, order: str) -> dict[str, Any]:
        """Press a button of the page; the browser adds a number that tells two equal orders apart."""
        return self._named(train.obey(self.ui, self.form, self.parts, f"{order}:17"))

    def method(self, name: str) -> dict[str, Any]:
        return self.order(f"method:{name}")

    def differences(self) -> str:
        return str(self.open()["differences"])

    def card(self, pending: int | None = None) -> str:
        return str(train.show(self.ui, self.parts, pending)[self.parts.card])

    def _named(self, found: dict[Any, Any]) -> dict[str, Any]:
        known = {**self.form.fields, **self.form.panels}
        names = {component: path for path, component in known.items()}
        return {names[one]: update for one, update in found.items() if one in names}


def pressed(panel: str) -> list[str]:
    """The values of the radio buttons that a chooser shows as chosen."""
    return re.findall(r'value="([^"]*)" checked', panel)


@pytest.fixture
def page(ui: Ui, shelf: Any) -> Iterator[Page]:
    shelf.dataset()
    shelf.model()
    yield Page(ui)


def values(page: Page) -> dict[str, Any]:
    with page.ui.store.read() as session:
        return filling.current(session).values


def test_a_half_filled_form_is_there_again_after_a_reload_and_in_another_browser(page: Page) -> None:
    page.open()
    page.set("training.epochs", 2.5)
    page.set("tuner.lora.rank", 8)

    again = Page(page.ui).open()

    assert again["training.epochs"]["value"] == 2.5
    assert again["tuner.lora.rank"]["value"] == 8


def test_what_nobody_set_follows_the_advice_and_says_why(page: Page) -> None:
    shown = page.open()

    assert shown["training.epochs"]["value"] == values(page)["training.epochs"]
    with page.ui.store.read() as session:
        filled = filling.current(session)
    assert {"training.epochs", "training.learning_rate"} <= set(filled.reasons)


def test_the_objective_follows_the_rows_of_the_dataset(page: Page, shelf: Any) -> None:
    page.open()
    shelf.dataset("pairs", row_kind="preference")
    before = values(page)["training.learning_rate"]

    shown = page.set("data.dataset", "pairs")

    assert pressed(shown["objective"]) == ["dpo"]
    assert shown["objective.dpo.beta"]["visible"] is True
    assert shown["training.learning_rate"]["value"] < before


def test_a_dataset_that_arrives_later_does_not_take_the_place_of_the_one_shown(page: Page, shelf: Any) -> None:
    page.open()

    shelf.dataset("newer")

    assert values(page)["data.dataset"] == "tickets"


def test_a_value_that_was_set_stays_when_the_advice_changes(page: Page, shelf: Any) -> None:
    shelf.dataset("pairs", row_kind="preference")
    page.set("training.learning_rate", 0.123)

    page.set("data.dataset", "pairs")

    assert values(page)["training.learning_rate"] == 0.123


def test_the_field_in_which_a_person_types_is_never_written(page: Page) -> None:
    assert "value" not in page.set("training.epochs", 2).get("training.epochs", {})
    assert "value" not in page.set("training.epochs", None).get("training.epochs", {})


def test_an_emptied_field_takes_its_default_again(page: Page) -> None:
    default = values(page)["training.epochs"]
    page.set("training.epochs", 9)

    page.set("training.epochs", None)

    assert values(page)["training.epochs"] == default


def test_one_click_on_a_method_sets_tuner_and_quantisation_apart(page: Page) -> None:
    shown = page.method("qlora")

    assert (values(page)["tuner.kind"], values(page)["model.quantization"]) == ("lora", "nf4")
    assert pressed(shown["method"]) == ["qlora", "lora"], "the method, and its tuner among all tuners"
    assert shown["model.quantization"]["value"] == "nf4"
    assert page.method("full")["tuner.lora.rank"]["visible"] is False


def test_settings_that_no_method_has_leave_no_method_chosen(page: Page) -> None:
    shown = page.set("model.quantization", "int8")

    assert pressed(shown["method"]) == ["lora"], "the tuner alone"
    assert "LoRA, base in 8 bits" in shown["method"]


def test_a_field_that_is_none_is_refused(page: Page) -> None:
    with pytest.raises(KeyError):
        page.set("training.bach_size", 4)


def test_a_run_starts_from_an_earlier_one_with_its_model_and_method(page: Page, runs: Any) -> None:
    runs.submit("first")
    claim = runs.claim()
    runs.save(claim, 20, 0.5)
    runs.settle(claim, State.SUCCEEDED)

    page.set("model.start_from", f"{claim.job_id}@20")

    assert values(page)["model.quantization"] == "nf4"
    with page.ui.store.read() as session:
        data = filling.current(session).data
    assert data["model"]["start_from"] == f"{claim.job_id}@20"


def saved(runs: Any) -> int:
    runs.submit("first")
    claim = runs.claim()
    runs.save(claim, 20, 0.5)
    runs.settle(claim, State.SUCCEEDED)
    return int(claim.job_id)


def test_a_run_names_the_revision_of_its_model_and_refuses_another(page: Page) -> None:
    facts = {"revision": "a" * 40}
    with page.ui.store.write() as session:
        models.add(session, NewModel(name="fetched", path="/f", source="hub", bytes=1, facts=facts))
        data = {"name": "r", "data": {"dataset": "tickets"}, "model": {"id": "fetched"}}
        assert submission.prepare(session, data).model.revision == "a" * 40
        data["model"]["revision"] = "b" * 40
        with pytest.raises(ProblemError) as refused:
            submission.prepare(session, data)
    assert [one.code for one in refused.value.problems] == ["model_other_revision"]


def test_a_run_is_submitted_with_the_content_of_its_rows(ui: Ui, page: Page) -> None:
    data = {"data": {"dataset": "tickets"}}
    with ui.store.read() as session:
        spec = submission.prepare(session, data)
        assert spec.data.sha256 == datasets.get(session, "tickets").sha256
        submission.prepare(session, spec.model_dump(mode="json"))
        with pytest.raises(ProblemError, match="data_other_rows"):
            submission.prepare(session, {"data": {**data["data"], "sha256": "0" * 64}})
    assert not any("sha256" in path for path in page.form.fields), "nobody has to fill it in"


def test_a_run_that_starts_from_another_names_its_checkpoint_and_keeps_it(page: Page, runs: Any) -> None:
    first = saved(runs)
    data = {
        "name": "on", "data": {"dataset": "tickets"}, "tuner": {"kind": "lora", "rank": 16},
        "model": {"id": "other", "quantization": "nf4", "start_from": str(first)},
    }  # fmt: skip
    with page.ui.store.write() as session:
        spec = submission.prepare(session, data)
        job = submission.submit(session, spec)
        pinned = checkpoints.get(session, first, 20).pinned

    assert (spec.model.start_from, spec.model.id) == (f"{first}@20", "starter")
    assert (job.parent_id, pinned) == (first, True)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [("model.quantization", "none", "start_from_quantization"), ("tuner.lora.rank", 8, "start_from_rank")],
)
def test_the_card_says_what_keeps_an_adapter_from_going_on(
    page: Page, runs: Any, path: str, value: Any, code: str
) -> None:
    page.set("model.start_from", f"{saved(runs)}@20")
    page.set("model.start_as", "continue")
    page.set(path, value)

    about = runcard.assess(page.ui, within_s=0)

    assert [one.code for one in about.problems] == [code]
    assert not about.is_ready


def test_an_adapter_of_another_shape_is_merged_unless_that_would_round_it_away(page: Page, runs: Any) -> None:
    page.set("model.start_from", f"{saved(runs)}@20")
    page.set("tuner.lora.rank", 8)
    said = {one.code for one in runcard.assess(page.ui, within_s=0).problems}
    assert said == {"start_merge_rounds", "start_from_rank"}, "also what keeps it from going on"
    page.set("model.quantization", "none")
    assert not runcard.assess(page.ui, within_s=0).problems


def test_a_link_chooses_once_and_a_reload_keeps_what_was_typed_since(page: Page, shelf: Any) -> None:
    shelf.dataset("pairs", row_kind="preference")
    page.open(dataset="tickets")
    page.set("data.dataset", "pairs")

    assert page.open(dataset="tickets")["data.dataset"]["value"] == "pairs"


def test_a_run_is_cloned_into_the_form(page: Page, runs: Any) -> None:
    job = runs.submit("old", training__epochs=7.0)

    shown = page.open(**{"from": str(job.id)})

    assert (shown["training.epochs"]["value"], shown["tuner.lora.rank"]["value"]) == (7.0, 16)


def test_the_card_counts_through_the_preview_child(page: Page, shelf: Any) -> None:
    shelf.worker()
    first = runcard.assess(page.ui, within_s=0)
    asked = shelf.answer(PLAN)

    about = runcard.assess(page.ui, first.request_id)

    assert asked.kind == "plan"
    assert asked.payload["spec"]["data"] == {**asked.payload["spec"]["data"], "dataset": "tickets", "version": 1}
    assert about.request_id is None
    assert about.is_ready
    shown = str(runcard.html(about, page.ui.t))
    assert "31 %" in shown
    assert page.ui.t("train.not_measured") in shown


def test_while_the_numbers_are_counted_the_timer_looks_again(page: Page, shelf: Any) -> None:
    shelf.worker()

    found = train.show(page.ui, page.parts)

    assert found[page.parts.pending] is not None
    assert found[page.parts.timer]["active"] is True
    assert found[page.parts.start]["interactive"] is True


def test_without_a_worker_the_card_says_so_and_start_still_works(page: Page) -> None:
    assert page.ui.t("train.no_worker") in page.card()
    train.start(page.ui)

    assert len(training(page.ui)) == 1


def test_what_the_preview_child_refuses_makes_the_run_not_ready(page: Page, shelf: Any) -> None:
    shelf.worker()
    first = runcard.assess(page.ui, within_s=0)
    shelf.answer(None, {"code": "spec_longer_than_context", "field": "data.max_length", "values": {}})

    assert not runcard.assess(page.ui, first.request_id).is_ready


def test_a_value_out_of_bounds_is_refused_with_the_name_of_its_field(page: Page) -> None:
    page.set("training.batch_size", 0)

    found = train.show(page.ui, page.parts)

    assert found[page.parts.start]["interactive"] is False
    assert "Batch size" in found[page.parts.card]
    assert "Batch size" in train.start(page.ui)
    assert training(page.ui) == []


def test_a_dataset_that_was_deleted_is_a_problem_and_no_crash(page: Page) -> None:
    page.set("data.dataset", "gone <b>")

    assert not runcard.assess(page.ui).is_ready
    assert "<b>" not in page.card()
    page.open()


def training(ui: Ui) -> list[Any]:
    with ui.store.read() as session:
        return jobs.listing(session, kinds=["train"])


def test_a_double_click_makes_one_run(page: Page) -> None:
    page.open()

    said = [train.start(page.ui), train.start(page.ui)]

    assert len(training(page.ui)) == 1
    assert said[0] == said[1]
    assert f"/runs?run={training(page.ui)[0].id}" in said[0]


def test_after_a_change_or_a_reload_start_makes_another_run(page: Page) -> None:
    train.start(page.ui)
    page.set("training.epochs", 1)
    train.start(page.ui)
    page.open()
    train.start(page.ui)

    assert len(training(page.ui)) == 3


def test_the_run_has_what_the_form_shows(page: Page) -> None:
    page.method("qlora")
    page.set("training.batch_size", 2)
    train.start(page.ui)

    spec = parse(training(page.ui)[0].spec)

    assert (spec.data.version, spec.training.batch_size, spec.model.quantization) == (1, 2, "nf4")
    assert spec.name == "tickets-qlora"


def test_measure_queues_one_trial_of_exactly_this_run_whatever_its_name(page: Page) -> None:
    train.measure(page.ui)
    page.set("name", "other")
    train.measure(page.ui)
    page.set("training.batch_size", 1)
    train.measure(page.ui)

    assert len(trial_jobs(page.ui)) == 2


def trial_jobs(ui: Ui) -> list[Any]:
    with ui.store.read() as session:
        return jobs.listing(session, kinds=["trial"])


def test_start_cancels_the_trials(page: Page) -> None:
    train.measure(page.ui)

    train.start(page.ui)

    assert [job.state for job in trial_jobs(page.ui)] == [State.CANCELLED]


def test_what_was_measured_stands_on_the_card_of_this_run_alone(page: Page, runs: Any, shelf: Any) -> None:
    shelf.worker()
    train.measure(page.ui)
    claim = runs.claim()
    result = {"seconds_per_step": 2.0, "peak_memory_bytes": 1_800_000_000, "device": "cpu", "start_seconds": 4.0}
    runs.settle(claim, State.SUCCEEDED, result=result)

    first = runcard.assess(page.ui, within_s=0)
    shelf.answer(PLAN)
    shown = str(runcard.html(runcard.assess(page.ui, first.request_id), page.ui.t))

    assert page.ui.t("train.of", part="1.8 GB", whole="8.0 GB") in shown
    assert page.ui.t("train.measured") in shown
    page.set("training.batch_size", 1)
    assert page.ui.t("train.measured") not in page.card()


def test_a_failed_measurement_says_why_and_can_be_tried_again(page: Page, runs: Any) -> None:
    train.measure(page.ui)
    runs.settle(runs.claim(), State.FAILED, "out_of_memory")

    assert page.ui.t("train.measure_failed") in page.card()
    train.measure(page.ui)
    assert len(trial_jobs(page.ui)) == 2


def test_the_yaml_is_the_run(page: Page) -> None:
    import html

    import yaml

    page.set("name", "a: <b> & 'c'")
    shown = train.show_yaml(page.ui)

    found = re.search(r"<code>(.*)</code>", shown, re.DOTALL)
    assert found is not None
    spec = parse(yaml.safe_load(html.unescape(found[1])))
    with page.ui.store.read() as session:
        assert trials.fingerprint(spec) == trials.fingerprint(runcard.assess(page.ui).spec)  # type: ignore[arg-type]
        assert requests.waiting(session) == 0


def test_back_to_the_defaults_keeps_data_model_and_method(page: Page) -> None:
    page.method("qlora")
    page.set("training.epochs", 9)

    train.go_back(page.ui, page.form, page.parts)

    assert values(page)["training.epochs"] != 9
    assert values(page)["model.quantization"] == "nf4"


def test_each_objective_and_tuner_stands_in_its_chooser_once_and_a_new_one_by_itself(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "echo", EchoObjective())

    shown = page.open()

    for kind in OBJECTIVES:
        assert shown["objective"].count(f'data-order="choose:objective.kind:{kind}"') == 1, kind
    assert ">echo</strong>" in shown["objective"], "without a sentence or a name of its own"
    for kind in TUNERS:
        assert shown["method"].count(f'data-order="choose:tuner.kind:{kind}"') == 1, kind


def test_an_objective_that_the_dataset_does_not_fit_is_off_with_the_reason_and_how_to_get_such_rows(page: Page) -> None:
    shown = page.open()["objective"]

    misfits = {kind for kind, entry in OBJECTIVES.items() if "conversation" not in entry.row_kinds}
    assert set(re.findall(r'value="(\w+)" disabled', shown)) == misfits >= {"dpo"}
    assert "Needs preference pairs; this dataset holds conversations." in shown
    assert page.ui.t("row_kind.preference.how") in shown
    assert page.ui.t("objective.sft.when") in shown


def test_a_chosen_objective_shows_its_settings_and_hides_those_of_the_others(page: Page) -> None:
    page.open()

    shown = page.order("choose:objective.kind:pretrain")

    hidden = {path for path, update in shown.items() if isinstance(update, dict) and update.get("visible") is False}
    assert {path for path in hidden if not path.startswith("objective.sft.")} == set()
    assert "objective.sft.train_on" in hidden
    assert pressed(shown["objective"]) == ["pretrain"]
    assert page.order("choose:objective.kind:sft")["objective.sft.train_on"]["value"] == "assistant"


def test_a_tuner_that_cannot_train_on_the_chosen_base_is_off_with_the_reason(page: Page) -> None:
    shown = page.method("qlora")["method"]

    refused = {kind for kind, entry in TUNERS.items() if "nf4" in entry.refuses}
    assert set(re.findall(r'value="(\w+)" disabled', shown)) == refused >= {"full"}
    assert "4 bits" in shown and "must not be rounded" in shown
    assert 'value="full" disabled' not in page.order("choose:model.quantization:none")["method"]


def test_an_order_for_a_field_that_is_none_is_refused(page: Page) -> None:
    with pytest.raises(KeyError):
        page.order("choose:training.bach_size:4")


def test_nothing_differs_at_first_and_a_change_is_told_with_its_default_and_a_way_back(page: Page) -> None:
    assert page.ui.t("train.same_as_defaults") in page.differences()
    default = values(page)["training.batch_size"]

    shown = page.set("training.batch_size", 64)["differences"]

    assert "Batch size" in shown and f"<s>{default}</s>" in shown and "<b>64</b>" in shown
    back = page.order("back:training.batch_size")
    assert back["training.batch_size"]["value"] == default
    assert page.ui.t("train.same_as_defaults") in back["differences"]


def test_a_default_that_is_typed_in_differs_from_nothing_and_a_choice_is_told_by_its_name(page: Page) -> None:
    page.set("training.batch_size", values(page)["training.batch_size"])
    assert page.ui.t("train.same_as_defaults") in page.differences()

    shown = page.set("objective.sft.train_on", "last")["differences"]

    assert "the last answer only" in shown
    page.order("choose:objective.kind:pretrain")
    assert "the last answer only" not in page.differences(), "a setting of another objective is none of this run"


def test_what_a_preset_sets_is_marked_with_its_reason_and_undone_by_one_click(page: Page) -> None:
    page.open()
    page.set("training.epochs", 1.5)
    page.set("training.batch_size", 2)
    before = values(page)

    shown = page.order("preset:style")

    assert values(page)["training.epochs"] == 5.0 == shown["training.epochs"]["value"]
    assert "Writing in a style takes 5 to 10 passes" in shown["training.epochs"]["info"]
    assert "Writing in a style takes 5 to 10 passes" in shown["differences"]
    assert 'aria-pressed="true"' in shown["presets"]
    page.set("data.max_length", 128)
    assert 'aria-pressed="true"' not in page.order("undo:preset")["presets"]
    assert values(page) == {**before, "data.max_length": 128}, "what was set since then stays"


def test_a_preset_that_changes_nothing_does_not_point_to_the_list_of_what_differs(page: Page, shelf: Any) -> None:
    shelf.dataset("pairs", row_kind="preference")
    page.set("data.dataset", "pairs")

    shown = page.order("preset:align")

    assert "is what this dataset gets by default" in shown["presets"]
    assert "every setting has its default" in page.differences()


def test_a_teacher_and_a_reward_model_are_chosen_from_what_can_be_one(page: Page, runs: Any) -> None:
    runs.submit("scorer", objective__kind="reward")
    claim = runs.claim()
    new = NewCheckpoint(
        step=4, path="/runs/4", manifest_sha="0" * 64, bytes=9, base_path="/models/starter", quantization="none",
        dtype="bfloat16", is_adapter=True, head="score",
    )  # fmt: skip
    with page.ui.store.write() as session:
        checkpoints.add(session, claim, new)
    runs.settle(claim, State.SUCCEEDED)
    runs.submit("writer")
    writer = runs.claim()
    runs.save(writer, 5)

    teachers = page.order("choose:objective.kind:distill")["objective.distill.teacher"]["choices"]
    scorers = page.order("choose:objective.kind:grpo")["objective.grpo.rewards.reward_run.run"]["choices"]

    assert [value for _, value in teachers] == ["", "base:starter", f"{writer.job_id}@5"]
    assert [value for _, value in scorers] == ["", f"{claim.job_id}@4"]


def test_a_preset_takes_the_place_of_another_one(page: Page) -> None:
    page.order("preset:style")
    page.order("preset:knowledge")

    assert values(page)["training.early_stopping_patience"] is None
    assert (values(page)["objective.kind"], values(page)["tuner.lora.rank"]) == ("pretrain", 64)
    page.order("undo:preset")
    assert page.ui.t("train.same_as_defaults") in page.differences()


def test_a_value_that_a_person_changes_after_a_preset_is_their_own(page: Page) -> None:
    page.order("preset:style")

    shown = page.set("training.epochs", 7.0)

    assert "Set by you" in shown["training.epochs"]["info"]
    assert "Writing in a style" not in shown["differences"]


def test_a_preset_that_the_dataset_does_not_fit_says_what_it_needs(page: Page, shelf: Any) -> None:
    shelf.dataset("pairs", row_kind="preference")
    page.set("data.dataset", "pairs")

    shown = page.open()["presets"]

    off = re.findall(r'data-order="preset:(\w+)" aria-pressed="false" disabled', shown)
    assert "style" in off and "align" not in off
    assert "Needs conversations; this dataset holds preference pairs." in shown


def test_a_run_that_a_preset_filled_is_submitted_with_it_and_a_clone_is_no_preset(page: Page, runs: Any) -> None:
    page.order("preset:style")
    train.start(page.ui)

    assert parse(training(page.ui)[0].spec).training.early_stopping_patience == 3
    page.open(**{"from": str(training(page.ui)[0].id)})
    assert values(page)["training.early_stopping_patience"] == 3
    with page.ui.store.read() as session:
        assert filling.current(session).preset is None


def test_every_setting_is_found_by_its_words_in_both_languages_and_by_its_path() -> None:
    def found(*terms: str, language: str = "en") -> set[str]:
        return {one["id"] for one in searching.index(language) if all(term in one["words"] for term in terms)}

    assert {one["id"] for one in searching.index("en")} >= {form.element_id(path) for path in settings()}
    for words in (("learning", "rate"), ("学习率",), ("learning_rate",), ("training.learning_rate",)):
        assert "field-training-learning-rate" in found(*words), words
    assert found("秩", language="zh") & {"field-tuner-lora-rank"} == found("秩") & {"field-tuner-lora-rank"} != set()
    assert "field-objective-kind" in found("dpo") and "field-method" in found("lora")
    assert found("no such words") == set()


def test_a_setting_of_a_choice_says_where_it_belongs_and_how_to_choose_it() -> None:
    beta = next(one for one in searching.index("en") if one["id"] == "field-objective-dpo-beta")

    assert (beta["label"], beta["of"]) == ("Beta", "DPO: prefer one answer to another")
    assert beta["order"] == "choose:objective.kind:dpo"
    assert "order" not in next(one for one in searching.index("en") if one["id"] == "field-training-epochs")


def test_the_default_of_an_entrys_setting_says_why_it_is_what_it_is(page: Page) -> None:
    shown = page.open()

    assert page.ui.t("field.tuner.lora.rank.why") in shown["tuner.lora.rank"]["info"]
    assert page.ui.t("field.objective.sft.train_on.why") in shown["objective.sft.train_on"]["info"]
    changed = page.set("tuner.lora.targets", "attention")["tuner.lora.targets"]["info"]
    assert "the default is all linear layers" in changed
