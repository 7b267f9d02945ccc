"""Pre-training: from text rows and a spec to a loss that falls."""

from __future__ import annotations

from engine.data.rows import RowWriter
from storage import datasets
from storage.datasets import NewVersion
from tests.runtime.training_room import make_room

TEXT = "The quick brown fox jumps over the lazy dog. " * 40


def test_a_model_learns_from_texts(tiny_model, tmp_path, monkeypatch):
    with make_room(tiny_model, tmp_path, monkeypatch) as room:
        with RowWriter(tmp_path / "rows.parquet", "text") as writer:
            for number in range(8):
                writer.add({"text": f"{number} {TEXT}", "split": "train"})
        folder = room.home.datasets / writer.sha256
        folder.mkdir()
        path = (tmp_path / "rows.parquet").rename(folder / "rows.parquet")
        with room.store.write() as session:
            datasets.add_version(
                session,
                NewVersion(
                    name="texts",
                    sha256=writer.sha256,
                    path=str(path),
                    row_kind="text",
                    format="text",
                    rows=8,
                    usable_rows=8,
                    bytes=path.stat().st_size,
                    source_name="texts.txt",
                ),
            )
        done = room.train(
            objective={"kind": "pretrain"}, data={"dataset": "texts", "packing": True, "eval_fraction": 0.2}
        )
        assert done.state == "succeeded", room.log(done.id)
        losses = [value for _, value in room.curve(done.id)]
        assert losses[-1] < losses[0] - 0.1
        counts = done.result["counts"]
        assert counts["split_rows"] == counts["train_rows"] and counts["train_sequences"] > counts["train_rows"]
        assert done.result["answers"] == []
