"""The form is the spec: every field has a component, and values go there and back by path."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from app import form
from app.form import Required, flat, label_of, named, nested, settings
from app.language import Text, text
from engine.objectives import OBJECTIVES
from engine.specs.job import JobSpec, parse
from engine.specs.problem import problem
from engine.tuners import TUNERS

EN = text("en")


REWARDED = {"rewards": {"length": {"weight": 1.0}}}
CANNOT_DO_WITHOUT: dict[str, dict[str, Any]] = {"grpo": REWARDED, "rloo": REWARDED, "distill": {"teacher": "starter"}}


def a_spec(objective: str = "sft", tuner: str = "lora") -> JobSpec:
    chosen = {"kind": objective, **CANNOT_DO_WITHOUT.get(objective, {})}
    data = {"data": {"dataset": "tickets"}, "objective": chosen, "tuner": {"kind": tuner}}
    return parse({**data, "training": {"learning_rate": 1e-4}})


EVERY_CHOICE = [("sft", tuner) for tuner in TUNERS] + [(objective, "lora") for objective in OBJECTIVES]


@pytest.mark.parametrize(("objective", "tuner"), EVERY_CHOICE)
def test_values_go_from_a_spec_to_the_form_and_back_unchanged(objective: str, tuner: str) -> None:
    data = a_spec(objective, tuner).model_dump(mode="json")

    assert nested(flat(data)) == data


@pytest.mark.parametrize(("objective", "tuner"), EVERY_CHOICE)
def test_every_field_of_a_spec_has_a_setting(objective: str, tuner: str) -> None:
    paths = set(flat(a_spec(objective, tuner).model_dump(mode="json")))

    filled_in = {"data.sha256", "data.mix_in_version", "data.mix_in_sha256"}
    assert paths - set(settings()) == {"schema_version", *filled_in, "objective.kind", "tuner.kind"}


def test_the_order_of_values_does_not_matter() -> None:
    values = flat(a_spec().model_dump(mode="json"))
    turned = dict(reversed(values.items()))

    assert parse(nested(turned)) == a_spec()


def test_fields_of_a_choice_that_was_not_made_stay_out_of_the_spec() -> None:
    data = nested({"objective.kind": "sft", "objective.dpo.beta": 0.3, "objective.sft.train_on": "last"})

    assert data == {"objective": {"kind": "sft", "train_on": "last"}}


def test_settings_that_lie_deeper_go_there_and_back() -> None:
    values = {
        "objective.kind": "grpo",
        "objective.grpo.rewards.regex.pattern": "a",
        "objective.rloo.rewards.regex.pattern": "b",
    }

    assert nested(values) == {"objective": {"kind": "grpo", "rewards": {"regex": {"pattern": "a"}}}}
    assert flat(nested(values)) == {"objective.kind": "grpo", "objective.grpo.rewards.regex.pattern": "a"}
    assert label_of("objective.rewards.regex.pattern", EN) == "Pattern"


def test_label_help_and_bounds_come_from_the_spec() -> None:
    rank = settings()["tuner.lora.rank"]

    assert (rank.label, rank.simple, rank.low, rank.high, rank.section) == ("Rank", True, 1.0, 1024.0, "tuner.lora")
    assert settings()["data.max_length"].unit == "tokens"
    assert settings()["data.dataset"].default is Required
    assert settings()["training.max_steps"].optional


def test_each_kind_of_field_becomes_its_kind_of_component() -> None:
    with gr.Blocks():
        made = {path: form.component(setting, EN) for path, setting in settings().items()}

    assert isinstance(made["training.learning_rate"], gr.Number)
    assert isinstance(made["training.schedule"], gr.Dropdown)
    assert isinstance(made["data.packing"], gr.Checkbox)
    assert isinstance(made["name"], gr.Textbox)
    assert made["training.batch_size"].precision == 0  # type: ignore[attr-defined]


def test_a_number_field_lets_everything_through_to_the_spec() -> None:
    with gr.Blocks():
        made = form.component(settings()["training.batch_size"], EN)

    assert made.preprocess(0) == 0
    assert made.preprocess(10**9) == 10**9


@pytest.mark.parametrize(
    ("path", "sent", "kept"),
    [("name", "  tone ", "tone"), ("name", "", None), ("training.batch_size", 4.0, 4), ("training.epochs", 2.0, 2.0)],
)
def test_what_a_component_sends_is_read_as_the_spec_takes_it(path: str, sent: Any, kept: Any) -> None:
    found = form.read(path, sent)

    assert (found, type(found)) == (kept, type(kept))


def test_a_problem_is_told_with_the_name_that_stands_on_the_form() -> None:
    assert named(problem("spec_too_small", field="training.batch_size"), EN).where.field == "Batch size"
    assert named(problem("spec_too_large", field="objective.beta"), EN).where.field == "Beta"
    assert label_of("tuner.rank", EN) == "Rank"
    assert label_of("nothing.known", EN) == "nothing.known"


def test_a_sentence_of_the_language_file_wins_over_the_spec() -> None:
    words = Text(
        "zh",
        {"field.tuner.lora.rank.label": "秩", "field.tuner.lora.rank.help": "容量。", "form.bounds": "{low}–{high}"},
    )
    rank = settings()["tuner.lora.rank"]

    assert (rank.name(words), rank.explained(words)) == ("秩", "容量。 (1–1,024)")


def test_every_setting_has_its_label_and_help_in_chinese() -> None:
    words = text("zh")

    assert [path for path in settings() if not words.has(f"field.{path}.label")] == []
    assert [path for path in settings() if not words.has(f"field.{path}.help")] == []
