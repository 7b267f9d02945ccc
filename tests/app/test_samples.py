"""The Samples tab and `atelier samples`: what a run answered, best first, as text and nothing else."""

from __future__ import annotations

import json

import gradio as gr
import pytest
from typer.testing import CliRunner

from app import beside, cli, samplespanel, samplesview
from app.language import text
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from storage import checkpoints, jobs, models, samples
from storage.models import NewModel
from storage.samples import NewSample
from storage.states import State

T = text("en")
REWARDED = {"kind": "grpo", "rewards": {"length": {"weight": 1.0}}}


def one(completion, reward, *, question=0, cut=False):
    return NewSample(
        question, "What is 2 + 2?", "4", completion, 3, cut, reward, {"exact_match": reward, "judge": None}
    )


@pytest.fixture
def claim(ui, runs):
    with ui.store.write() as session:
        spec = {"objective": REWARDED, "model": {"id": "starter"}, "data": {"dataset": "x"}, "tuner": {"kind": "lora"}}
        jobs.submit(session, kind="train", name="rewarded", spec=spec, lane="gpu")
    return runs.claim()


@pytest.fixture
def parts(ui):
    with gr.Blocks():
        return samplespanel.lay_out(ui)


def draw(ui, claim, step, *drawn):
    with ui.store.write() as session:
        samples.add(session, claim, step, drawn)


def shown(ui, claim, step=None):
    with ui.store.read() as session:
        return samplesview.samples(ui.t, session, jobs.get(session, claim.job_id), step)


def test_answers_stand_under_their_prompt_with_their_rewards_the_best_first(ui, claim):
    draw(ui, claim, 3, one("five", 0.0), one("4", 1.0), one("four", 0.5, question=1, cut=True))
    said = shown(ui, claim)
    assert said.index("Reward 1 · 3 tokens") < said.index("Reward 0 · 3 tokens")
    assert "Step 3 · prompts shown: 2 · mean reward of their answers: 0.500" in said
    assert "exact match 1 · judge –" in said and said.count("cut off") == 1
    assert said.count("What is 2 + 2?") == 2 and said.count('class="at-same"') == 1


def test_what_a_model_writes_is_text_and_never_markup(ui, claim):
    draw(ui, claim, 1, one("<script>alert(1)</script>\n# no heading", 1.0))
    assert "<script" not in shown(ui, claim) and "&lt;script&gt;alert(1)" in shown(ui, claim)


def test_an_empty_tab_says_what_will_appear_and_a_run_that_draws_no_answers_has_no_such_tab(ui, claim, runs, parts):
    assert T("runs.no_samples_text") in shown(ui, claim)
    assert samplespanel.opened(ui, parts, str(claim.job_id))[parts.tab]["visible"] is True
    plain = runs.submit("plain")
    assert samplespanel.opened(ui, parts, str(plain.id))[parts.tab]["visible"] is False


def test_a_chosen_step_stays_while_newer_ones_come_and_a_tick_sends_only_what_is_new(ui, claim, parts):
    draw(ui, claim, 1, one("first", 0.0))
    found = samplespanel.refresh(ui, parts, str(claim.job_id), "1", "")
    assert "first" in found[parts.body] and found[parts.step]["visible"]
    seen = found[parts.seen]
    assert samplespanel.refresh(ui, parts, str(claim.job_id), "1", seen) == gr.skip()
    draw(ui, claim, 2, one("second", 1.0))
    kept = samplespanel.refresh(ui, parts, str(claim.job_id), "1", seen)
    assert "first" in kept[parts.body] and kept[parts.step]["value"] == "1"
    assert kept[parts.step]["choices"] == [("newest", "newest"), ("step 2", "2"), ("step 1", "1")]
    assert "second" in samplespanel.opened(ui, parts, str(claim.job_id))[parts.body]
    assert samplespanel.refresh(ui, parts, "", "1", "x")[parts.body] == ""


def test_they_can_be_read_after_the_run_has_ended(ui, claim, runs):
    draw(ui, claim, 1, one("first", 0.0))
    runs.settle(claim, State.SUCCEEDED)
    assert "first" in shown(ui, claim)


def test_the_command_prints_the_newest_step_or_the_one_that_was_asked_for(ui, claim, monkeypatch):
    monkeypatch.setenv("ATELIER_HOME", str(ui.home.root))
    monkeypatch.delenv("ATELIER_STORE", raising=False)
    for step in (1, 2):
        draw(ui, claim, step, one(f"answer {step}", float(step)))
    told = CliRunner().invoke(cli.app, ["samples", str(claim.job_id), "--json"])
    document = json.loads(told.stdout)
    assert (document["step"], document["steps"]) == (2, [2, 1])
    assert document["items"][0]["completion"] == "answer 2" and document["items"][0]["rewards"]["exact_match"] == 2.0
    told = CliRunner().invoke(cli.app, ["samples", str(claim.job_id), "--step", "1"])
    assert "answer 1" in told.stdout and "Reward 1" in told.stdout and "answer 2" not in told.stdout


def test_another_model_is_named_exactly_and_its_checkpoint_kept(ui, runs):
    job = runs.submit("teacher")
    claim = runs.claim()
    runs.save(claim, 4, 0.5)
    data = {"data": {"dataset": "x"}, "tuner": {"kind": "lora"}, "training": {"learning_rate": 1e-4}}
    spec = parse({**data, "objective": {"kind": "distill", "teacher": str(job.id)}})
    with ui.store.write() as session:
        models.add(session, NewModel(name="big", path="/models/big", source="folder", bytes=1))
        exact = beside.exact(session, spec)
        assert exact.objective.model_dump()["teacher"] == f"{job.id}@4"
        beside.keep(session, exact)
        assert checkpoints.get(session, job.id, 4).pinned
        named = parse({**data, "objective": {"kind": "distill", "teacher": "big"}})
        assert beside.exact(session, named) == named
        with pytest.raises(ProblemError) as refused:
            beside.exact(session, parse({**data, "objective": {"kind": "distill", "teacher": "gone"}}))
    found = refused.value.problems[0]
    assert (found.code, found.where.field, found.values["given"]) == (
        "model_not_there",
        "objective.teacher",
        "base:gone",
    )
