"""Presets: each is a run that can be made, gives its reasons, and leaves alone what a person wrote."""

from __future__ import annotations

import pytest

from app.language import LANGUAGES, text
from engine.advice import defaults, presets
from engine.advice.presets import Preset, complete
from engine.objectives import OBJECTIVES
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from engine.tuners import TUNERS


def made(data, name):
    filled, _ = complete({"data": {"dataset": "tickets"}, **data}, name)
    facts = {"objective": filled["objective"]["kind"], "tuner": filled["tuner"]["kind"], "num_rows": 100}
    return parse(defaults.complete(filled, facts))


@pytest.mark.parametrize("name", presets.presets())
def test_each_preset_makes_a_run_with_the_values_that_it_names(name):
    spec = made({}, name).model_dump(mode="json")
    for path, advice in presets.presets()[name].values.items():
        place = spec
        for part in path.split("."):
            place = place[part]
        assert place == advice.value, path


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("preset", presets._ALL, ids=lambda one: one.name)
def test_each_preset_and_each_of_its_values_has_its_words(preset: Preset, language: str):
    t = text(language)
    wanted = {f"preset.{preset.name}", f"preset.{preset.name}.when"}
    wanted |= {f"advice.{one.code}" for one in preset.values.values()}
    wanted |= {f"source.{one.source}" for one in preset.values.values()}
    assert {key for key in wanted if not t.has(key)} == set()


def test_what_stands_in_the_spec_wins_and_is_not_told_as_set():
    filled, put = complete({"training": {"epochs": 1.5}}, "style")
    assert filled["training"]["epochs"] == 1.5
    assert "training.epochs" not in put and put["training.early_stopping_patience"].value == 3
    assert filled["objective"] == {"kind": "sft"}


def test_the_data_given_is_not_changed():
    given = {"training": {"epochs": 1.0}}
    complete(given, "style")
    assert given == {"training": {"epochs": 1.0}}


def test_with_another_tuner_the_preset_says_nothing_of_the_tuner():
    filled, put = complete({"tuner": {"kind": "full"}}, "knowledge")
    assert filled["tuner"] == {"kind": "full"}
    assert not [path for path in put if path.startswith("tuner.")]


def test_a_preset_of_another_objective_than_the_spec_names_is_refused():
    with pytest.raises(ProblemError, match="usage_preset_objective"):
        complete({"objective": {"kind": "sft"}}, "align")


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(ProblemError) as refused:
        complete({}, "speed")
    assert "style" in refused.value.problems[0].values["allowed"]


def test_a_section_that_is_none_is_left_to_the_spec_to_refuse():
    filled, put = complete({"training": "fast"}, "style")
    assert filled["training"] == "fast"
    assert not [path for path in put if path.startswith("training.")]


def test_a_preset_comes_with_its_objective_and_goes_with_it(monkeypatch):
    assert "classify" not in presets.presets() or "classify" in OBJECTIVES
    monkeypatch.setattr(presets, "OBJECTIVES", {kind: one for kind, one in OBJECTIVES.items() if kind != "dpo"})
    assert "classify" in presets.presets()
    assert "align" not in presets.presets()
    monkeypatch.setattr(presets, "TUNERS", {kind: one for kind, one in TUNERS.items() if kind != "lora"})
    assert presets.presets() == {}
