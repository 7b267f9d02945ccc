"""Through a whole run: the curves of task types stand in the store, and early stopping needs rows to stop by."""

from __future__ import annotations

import json

from app.curves import chart_names, task_curves
from app.language import text
from tests.runtime.training_room import add_rows, make_room


def preferences(count):
    return [
        {"prompt": f"Is {n} even?", "chosen": "Yes." * (1 + n % 5), "rejected": "No.", "task_type": "ab"[n % 2]}
        for n in range(count)
    ]


def test_a_run_draws_a_curve_for_each_task_type_and_needs_rows_to_stop_by(tiny_model, tmp_path, monkeypatch):
    with make_room(tiny_model, tmp_path / "home", monkeypatch) as room:
        for name, count in (("many", 40), ("one", 1)):
            path = tmp_path / f"{name}.jsonl"
            path.write_text("".join(f"{json.dumps(row)}\n" for row in preferences(count)))
            add_rows(room, name, path)
        data, training = {"dataset": "many", "eval_fraction": 0.2}, {"max_steps": 4, "eval_every_steps": 2}
        done = room.train(objective={"kind": "dpo"}, data=data, training=training)
        assert done.state == "succeeded", room.log(done.id)
        with room.store.read() as session:
            drawn = task_curves(session, done.id)
        assert drawn == ["task_loss/a", "task_loss/b"] == chart_names(done.spec, drawn)[-2:]
        losses = {name: dict(room.curve(done.id, f"eval_{name}")) for name in (*drawn, "loss")}
        assert set(losses["task_loss/a"]) == set(losses["loss"]) >= {2, 4}
        told = [losses[name][4] for name in drawn]
        assert min(told) <= losses["loss"][4] <= max(told)

        stopping = {**training, "early_stopping_patience": 1}
        alone = room.train(objective={"kind": "dpo"}, data={"dataset": "one"}, training=stopping)
        assert (alone.state, alone.reason) == ("failed", "early_stopping_needs_evaluation"), room.log(alone.id)
        assert "evaluations" in text("en").failure(alone.reason, alone.values)
