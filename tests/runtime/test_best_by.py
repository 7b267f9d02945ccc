"""The best checkpoint goes by the measure that was chosen, through a kill, and its average is what is stored."""

from __future__ import annotations

from pathlib import Path

import pytest

from storage import checkpoints
from tests.runtime.training_room import make_room


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_best_checkpoint_has_the_greatest_measure(tiny_model, tmp_path, monkeypatch):
    with make_room(tiny_model, tmp_path, monkeypatch) as room:
        training = {"best_by": "metric", "ema_decay": 0.5, "optimizer": "muon", "early_stopping_patience": 50}
        job_id = room.submit(
            objective={"kind": "dpo"}, data={"dataset": "preferences", "max_length": 64}, training=training
        )
        monkeypatch.setenv("ATELIER_CRASH_AT", "checkpoint_after_rename")  # its row is read from the folder
        monkeypatch.setenv("ATELIER_CRASH_ONCE", str(tmp_path / "crashed"))
        done = room.finish(job_id)
        assert done.state == "succeeded", room.log(job_id)
        assert [one.outcome for one in room.attempts(job_id)] == ["killed", "succeeded"]
        measured = dict(room.curve(job_id, "eval_rewards/accuracies"))
        rows = room.checkpoints(job_id)
        assert {one.step: one.score for one in rows} == {one.step: measured.get(one.step) for one in rows}
        assert rows[0].step == 3 and rows[0].score is not None
        with room.store.read() as session:
            best = checkpoints.best(session, job_id)
        scores = [one.score for one in rows if one.score is not None]
        assert best.score == max(scores) == done.result["score"]
        assert all((Path(one.path) / "raw" / "weights.safetensors").is_file() for one in rows)
