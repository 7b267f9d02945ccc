"""Runs of the preference objectives from rows to checkpoints: killed and resumed, and what a reward model refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from app import exports, submission, talk
from app.language import text
from engine.models.scoring import Scorer
from engine.models.serving import Served
from engine.runtime import start
from engine.runtime.device import Device
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from storage import messages, targets
from storage.errors import Conflict
from tests.runtime.training_room import add_rows, make_room

TRAINING = {"max_steps": 6, "eval_every_steps": 3, "save_every_steps": 2, "log_every_steps": 2}


@pytest.fixture(scope="module")
def room(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, make_room(tiny_model, folder, patch) as made:
        lines = [
            json.dumps(
                {"prompt": f"Question {n}?", "completion": "Yes." if n % 2 else "I do not know.", "label": n % 3 > 0}
            )
            for n in range(23)
        ]
        path = folder / "judged.jsonl"
        path.write_text("\n".join(lines) + "\n")
        add_rows(made, "judged", path)
        yield made


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_killed_run_of_kto_ends_as_one_that_was_not(room, monkeypatch, tmp_path):
    changes = {"data": {"dataset": "judged", "max_length": 64, "eval_fraction": 0.2}, "training": TRAINING}
    changes["objective"] = {"kind": "kto", "beta": 0.2}
    whole = room.train(**changes)
    assert whole.state == "succeeded", room.log(whole.id)
    assert whole.result["answers"] and set(whole.result["answers"][0]) == {"prompt", "expected", "base", "tuned"}
    kept = sorted(room.home.references.glob("*.safetensors"))
    times = [path.stat().st_ino for path in kept]
    job_id = room.submit(**changes)
    monkeypatch.setenv("ATELIER_CRASH_AT", "step_5")
    monkeypatch.setenv("ATELIER_CRASH_ONCE", str(tmp_path / "crashed"))
    done = room.finish(job_id)
    assert [one.outcome for one in room.attempts(job_id)] == ["killed", "succeeded"], room.log(job_id)
    assert done.state == "succeeded" and room.attempts(job_id)[-1].resumed_from_step == 4
    assert room.curves(job_id) == room.curves(whole.id) and "eval_kl" in room.curves(job_id)
    assert room.weights(job_id) == room.weights(whole.id)
    assert len(kept) == 2 and [path.stat().st_ino for path in kept] == times, "computed once for both runs"


@pytest.mark.timeout(300)
def test_a_reward_model_scores_and_is_exported_and_does_not_chat(room, tiny_model):
    done = room.train(
        data={"dataset": "preferences", "max_length": 96},
        objective={"kind": "reward"},
        training={**TRAINING, "max_steps": 4},
    )
    assert done.state == "succeeded", room.log(done.id)
    assert "answers" not in done.result and {"accuracy", "margin", "mean_reward"} <= set(room.curves(done.id))
    saved = room.checkpoints(done.id)[-1]
    assert (saved.head, saved.is_adapter) == ("score", True)
    said = [{"role": "user", "content": "Ask"}, {"role": "assistant", "content": "Say"}]
    scorer = Scorer(tiny_model, Path(saved.path), quantization="none", dtype="float32", device="cpu")
    assert len(scorer.scores([said, said])) == 2
    name = f"{done.id}@{saved.step}"
    with room.store.read() as session:
        target = targets.resolve(session, name)
        assert name not in [value for _, value in talk.choices(session, text("en"))]
        for refused in (
            lambda: talk.resolve(session, name),
            lambda: messages.ask(session, conversation_id=None, text="Hello", targets=[target], params={}),
        ):
            with pytest.raises(Conflict) as caught:
                refused()
            assert caught.value.code == "target_does_not_talk"
    with room.store.write() as session:
        export = exports.submit(session, {"target": name, "form": "adapter"})
    taken = room.finish(export.id)
    assert taken.state == "succeeded", room.log(export.id)
    assert taken.result["checks"]["compared"] == "scores" and taken.result["checks"]["num_rows"] >= 50
    served = Served(tiny_model, quantization="none", dtype="float32")
    with pytest.raises(ProblemError) as found, served.speaking(saved.path):
        pass
    assert [one.code for one in found.value.problems] == ["model_does_not_talk"]
    _starting_there_is_refused(room, name)


def _starting_there_is_refused(room, name):
    data = {"data": {"dataset": "tickets"}, "model": {"id": "tiny", "start_from": name}}
    for tuner in ({"kind": "lora", "rank": 4}, {"kind": "full"}):
        with room.store.read() as session, pytest.raises(ProblemError) as caught:
            submission.prepare(session, {**data, "objective": {"kind": "sft"}, "tuner": tuner})
        assert "start_from_head" in [one.code for one in caught.value.problems]
    spec = parse({**data, "objective": {"kind": "sft"}, "tuner": {"kind": "full"}, "training": {"learning_rate": 1e-4}})
    with pytest.raises(ProblemError) as caught:
        start.find(room.store, spec, Device("cpu", False))
    assert [one.code for one in caught.value.problems] == ["start_from_head"]
