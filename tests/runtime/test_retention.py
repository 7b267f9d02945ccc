"""Which checkpoints stay on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runtime.child import Context
from engine.runtime.trainer import Run
from engine.runtime.watching import Watch
from engine.specs.job import parse
from storage import checkpoints as rows
from storage import jobs
from tests.runtime.conftest import HOLDER
from tests.runtime.test_resuming import describe


def spec(**training):
    parts = {"data": {"dataset": "rows"}, "objective": {"kind": "sft"}, "tuner": {"kind": "lora"}}
    return parse({**parts, "training": {"learning_rate": 1e-3, **training}})


@pytest.fixture
def kept(studio):
    """Saves steps one after the other as the trainer does, with a loss for each; returns the steps that stay."""

    def keep(losses, *, pinned=(), **training):
        chosen = spec(**training)
        with studio.store.write() as session:
            jobs.submit(session, kind="train", name="run", spec=chosen.model_dump(mode="json"), lane="gpu")
            claim, job = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=600)
        context = Context(studio.home, studio.store, job, claim)
        run = Run(context, chosen)
        for step, loss in losses.items():
            save_step(context, step, loss)
            if step in pinned:
                with studio.store.write() as session:
                    rows.pin(session, job.id, step)
            run._prune()
        with studio.store.read() as session:
            listed = rows.listing(session, job.id)
        folders = {int(path.name.rsplit("-", 1)[1]) for path in context.folder.glob("checkpoint-*")}
        assert folders == {row.step for row in listed} and all(Path(row.path).is_dir() for row in listed)
        return [row.step for row in listed]

    return keep


def save_step(context, step, loss):
    from engine.runtime import checkpoints

    def write(folder):
        (folder / "weights").write_text(str(step))

    path, manifest = checkpoints.save(context.folder, write, step=step, token=context.claim.token, spec=context.spec)
    with context.store.write() as session:
        rows.add(session, context.claim, describe(path, manifest, {} if loss is None else {"eval_loss": loss}))


FALLING_THEN_RISING = {10: 3.0, 20: 1.0, 30: 2.0, 40: 2.1, 50: 2.2, 60: 2.3}


def test_the_newest_and_the_best_stay(kept):
    assert kept(FALLING_THEN_RISING, keep_checkpoints=2) == [20, 50, 60]


def test_every_nth_and_pinned_ones_stay_too(kept):
    assert kept(FALLING_THEN_RISING, keep_checkpoints=1, keep_every_steps=30, pinned=(10,)) == [10, 20, 30, 60]


def test_where_nothing_is_measured_the_newest_stay(kept):
    assert kept(dict.fromkeys((10, 20, 30)), keep_checkpoints=1) == [30]


def test_a_step_that_stays_for_good_is_saved():
    watch = Watch.__new__(Watch)
    watch._keep_every = 4
    assert [step for step in range(1, 13) if watch._is_kept(step)] == [4, 8, 12]
    watch._keep_every = None
    assert not watch._is_kept(4)
