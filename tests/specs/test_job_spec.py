"""The spec of a run: frozen, strict, and all its problems at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from engine.specs.home import Home, inside
from engine.specs.job import parse
from engine.specs.problem import Problem, ProblemError, problem
from engine.tuners import TUNERS

LEAST = {
    "data": {"dataset": "tickets"},
    "objective": {"kind": "sft"},
    "tuner": {"kind": "lora"},
    "training": {"learning_rate": 2e-4},
}


def problems_of(**changes):
    with pytest.raises(ProblemError) as caught:
        parse({**LEAST, **changes})
    return {(one.code, one.where.field) for one in caught.value.problems}


def test_a_spec_goes_to_json_and_back_unchanged():
    spec = parse(LEAST)
    assert parse(spec.model_dump(mode="json")) == spec


def test_a_spec_never_changes():
    with pytest.raises(ValidationError):
        parse(LEAST).seed = 3


def test_every_problem_is_reported_at_once_with_its_field():
    found = problems_of(
        data={"dataset": "tickets", "max_length": 2, "colour": "red"},
        objective={"kind": "sft", "beta": 1},
        tuner={"kind": "magic"},
        training={"learning_rate": float("nan"), "epochs": -1},
    )
    assert found == {
        ("spec_too_small", "data.max_length"),
        ("spec_unknown_field", "data.colour"),
        ("spec_unknown_field", "objective.beta"),
        ("spec_not_a_choice", "tuner.kind"),
        ("spec_not_finite", "training.learning_rate"),
        ("spec_not_above", "training.epochs"),
    }


@pytest.mark.parametrize(
    ("section", "field", "given", "code"),
    [
        ("training", "batch_size", "many", "spec_not_whole"),
        ("training", "batch_size", 1.5, "spec_not_whole"),
        ("training", "batch_size", None, "spec_not_whole"),
        ("training", "batch_size", "9" * 5000, "spec_not_whole"),
        ("training", "learning_rate", "fast", "spec_not_finite"),
        ("training", "learning_rate", [1], "spec_not_finite"),
        ("data", "packing", "maybe", "spec_not_true_or_false"),
        ("data", "packing", [], "spec_not_true_or_false"),
        ("model", "start_from", ["3"], "spec_not_text"),
        ("model", "start_from", "the best", "spec_not_a_run"),
        ("data", "dataset", "", "spec_missing_field"),
        ("model", "id", "x" * 500, "spec_too_long"),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_our_words(section, field, given, code):
    found = problems_of(**{section: {**LEAST.get(section, {}), field: given}})
    assert (code, f"{section}.{field}") in found


@pytest.mark.parametrize("section", ["model", "data", "objective", "tuner", "training", "resources"])
@pytest.mark.parametrize("given", ["lora", 7, [1], None])
def test_what_stands_where_settings_belong_is_named(section, given):
    assert problems_of(**{section: given}) >= {("spec_not_a_section", section)}


def test_a_number_names_a_run_or_a_dataset_as_well_as_a_text_does():
    assert parse({**LEAST, "name": 2026, "model": {"start_from": 3}}) == parse(
        {**LEAST, "name": "2026", "model": {"start_from": "3"}}
    )


def test_a_missing_section_is_named():
    with pytest.raises(ProblemError) as caught:
        parse({"data": {"dataset": "t"}})
    assert {one.where.field for one in caught.value.problems} >= {"objective", "tuner", "training"}


def test_all_weights_are_not_trained_on_a_quantised_base():
    assert problems_of(model={"quantization": "nf4"}, tuner={"kind": "full"}) == {
        ("tuner_needs_unquantised", "model.quantization")
    }


def test_only_an_objective_with_a_measure_of_its_own_is_judged_by_it():
    by_metric = {"learning_rate": 2e-4, "best_by": "metric"}
    assert problems_of(training=by_metric) == {("objective_has_no_metric", "training.best_by")}
    assert parse({**LEAST, "objective": {"kind": "dpo"}, "training": by_metric}).training.best_by == "metric"


def test_preference_pairs_are_not_packed():
    found = problems_of(data={"dataset": "p", "packing": True}, objective={"kind": "dpo"})
    assert found == {("objective_cannot_pack", "data.packing")}


def test_a_problem_goes_to_json_and_back():
    one = problem("row_no_answer", field="messages", line=4, role="user")
    assert Problem.from_dict(one.as_dict()) == one


def test_the_home_is_named_by_the_environment(tmp_path):
    home = Home.from_environment({"ATELIER_HOME": str(tmp_path / "a")})
    assert home.store_url == f"sqlite:///{tmp_path / 'a' / 'store.db'}"
    assert home.ensure().runs.stat().st_mode & 0o777 == 0o700
    assert Home.from_environment({"ATELIER_STORE": "postgresql://x"}).store_url == "postgresql://x"


@given(some.text(max_size=80))
def test_no_name_leads_outside_its_folder(tmp_path_factory, name):
    root = tmp_path_factory.getbasetemp()
    try:
        path = inside(root, name)
    except (ValueError, OSError):
        return
    assert path.is_relative_to(root.resolve())
    assert path != root.resolve()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x", "", ".", "a\0b", "..", "a/../.."])
def test_nasty_names_are_refused(tmp_path, name):
    with pytest.raises(ValueError):
        inside(tmp_path, name)


@pytest.mark.parametrize("tuner", ["prefix", "prompt", "p_tuning"])
@pytest.mark.parametrize(
    "objective", [{"kind": "reward"}, {"kind": "classify"}, {"kind": "distill", "teacher": "base:t"}]
)
def test_learned_tokens_before_a_row_are_refused_where_places_of_the_row_are_read(objective, tuner):
    assert ("tuner_moves_places", "tuner.kind") in problems_of(objective=objective, tuner={"kind": tuner})
    assert parse({**LEAST, "tuner": {"kind": tuner}}).tuner.kind == tuner


@pytest.mark.parametrize("objective", ["dpo", "kto", "reward", "classify"])
def test_a_run_that_changes_its_start_on_the_way_is_refused_where_the_start_has_to_stay(objective):
    found = problems_of(objective={"kind": objective}, tuner={"kind": "full_then_lora"})
    assert ("tuner_moves_start", "tuner.kind") in found
    assert parse({**LEAST, "objective": {"kind": "orpo"}, "tuner": {"kind": "full_then_lora"}})


def test_rewards_may_change_their_start_only_where_nothing_is_held_to_it():
    held = {"kind": "grpo", "rewards": {"number_match": {"weight": 1.0}}}
    batch = {"learning_rate": 1e-5, "batch_size": 8}
    given = {"tuner": {"kind": "full_then_lora"}, "training": batch}
    assert ("tuner_moves_start", "tuner.kind") in problems_of(objective={**held, "beta": 0.1}, **given)
    assert parse({**LEAST, "objective": {**held, "beta": 0.0}, **given})


@pytest.mark.parametrize("average", [{"ema_decay": 0.9}, {"optimizer": "schedule_free", "schedule": "constant"}])
def test_no_average_brings_back_what_a_tuner_has_cut(average):
    training = {"learning_rate": 1e-4, **average}
    assert problems_of(tuner={"kind": "adalora"}, training=training) == {("tuner_cuts_average", "training.ema_decay")}
    assert parse({**LEAST, "tuner": {"kind": "lora"}, "training": training})


@pytest.mark.parametrize("objective", ["reward", "classify"])
def test_no_second_dataset_is_mixed_into_labels_or_scores(objective):
    data = {"dataset": "rows", "mix_in": "other"}
    assert problems_of(objective={"kind": objective}, data=data) == {("objective_cannot_mix", "data.mix_in")}
    assert parse({**LEAST, "data": data})


@pytest.mark.parametrize("tuner", TUNERS)
def test_new_tokens_are_taken_where_their_embeddings_are_learned(tuner):
    chosen = {"tuner": {"kind": tuner}, "model": {"add_tokens": "<a> <b> <a>"}}
    if tuner in ("lora", "full", "full_then_lora"):
        assert parse({**LEAST, **chosen}).model.new_tokens == ("<a>", "<b>")
    else:
        assert problems_of(**chosen) == {("tuner_cannot_add_tokens", "model.add_tokens")}


def test_early_stopping_is_refused_where_no_row_is_kept_aside_to_stop_by():
    training = {"learning_rate": 1e-4, "early_stopping_patience": 3}
    data = {"dataset": "rows", "eval_fraction": 0}
    expected = {("early_stopping_needs_evaluation", "training.early_stopping_patience")}
    assert problems_of(data=data, training=training) == expected
    assert parse({**LEAST, "training": training}) and parse({**LEAST, "data": data})


def test_galore_is_for_weights_of_the_model_itself():
    training = {"learning_rate": 1e-4, "optimizer": "galore"}
    for tuner in ("lora", "full_then_lora"):
        found = problems_of(tuner={"kind": tuner}, training=training)
        assert ("optimizer_needs_whole", "training.optimizer") in found
    assert parse({**LEAST, "tuner": {"kind": "full"}, "training": training})
