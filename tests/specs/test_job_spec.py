"""The spec of a run: frozen, strict, and all its problems at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as some
from pydantic import ValidationError

from engine.specs.home import Home, inside
from engine.specs.job import parse
from engine.specs.problem import Problem, ProblemError, problem

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
        ("spec_too_small", "training.epochs"),
    }


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
