"""The README's recipe: a throw-away objective with one file, one line and one test, from the form to the curve."""

from __future__ import annotations

from app import form
from app.language import text
from engine.objectives import OBJECTIVES
from engine.specs.job import JobSpec
from engine.specs.kinds import KINDS, JobKind
from tests.fakes.echo import EchoObjective
from tests.runtime.training_room import make_room


def test_a_throw_away_objective_runs_from_its_form_to_its_curve(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(OBJECTIVES, "echo", EchoObjective())
    monkeypatch.setitem(KINDS, "train", JobKind(JobSpec, "tests.fakes.echo_trainer", "gpu"))
    with make_room(tiny_model, tmp_path, monkeypatch) as room:
        done = room.train(objective={"kind": "echo", "loudness": 1.5})
        assert done.state == "succeeded", room.log(done.id)
        assert done.spec["objective"] == {"kind": "echo", "loudness": 1.5}
        losses = [value for _, value in room.curve(done.id)]
        assert losses[-1] < losses[0]
        assert done.result["counts"]["trained_tokens"] > 0


def test_its_settings_stand_in_the_form_with_label_and_bounds(monkeypatch):
    monkeypatch.setitem(form.SECTIONS["objective"], "echo", EchoObjective.Spec)
    form.settings.cache_clear()
    try:
        found = form.settings()["objective.echo.loudness"]
        assert found.name(text("en")) == "Loudness"
    finally:
        form.settings.cache_clear()
