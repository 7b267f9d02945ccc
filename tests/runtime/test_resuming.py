"""Which checkpoint an attempt goes on from, and what happens to folders that no row names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from engine.runtime import checkpoints
from engine.runtime.child import Context, Refused
from engine.runtime.resuming import newest_good
from storage import checkpoints as rows
from storage import jobs
from storage.checkpoints import NewCheckpoint
from storage.jobs import Settlement
from storage.states import State
from tests.runtime.conftest import HOLDER

SPEC = {"name": "run", "seed": 1}


def describe(path, manifest, evaluated):
    base = {"base_path": "/base", "quantization": "none", "dtype": "float32", "is_adapter": True}
    return NewCheckpoint(
        step=manifest.step, path=str(path), manifest_sha=manifest.sha256, bytes=manifest.num_bytes,
        eval_loss=evaluated.get("eval_loss"), **base
    )  # fmt: skip


class Run:
    """A run whose attempts save by hand."""

    def __init__(self, studio):
        self.studio = studio
        with studio.store.write() as session:
            self.id = jobs.submit(session, kind="train", name="run", spec=SPEC, lane="gpu").id
        self.context = self.claim()

    def claim(self):
        with self.studio.store.write() as session:
            claim, job = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=600)
        self.context = Context(self.studio.home, self.studio.store, job, claim)
        self.context.folder.mkdir(parents=True)
        return self.context

    def die(self):
        with self.studio.store.write() as session:
            jobs.settle(session, self.context.claim, Settlement("requeue", reason="killed"))
        return self.claim()

    def fail(self):
        with self.studio.store.write() as session:
            jobs.settle(session, self.context.claim, Settlement(State.FAILED, reason="checkpoints_broken"))

    def save(self, step, *, listed=True, spec=SPEC):
        def write(folder):
            (folder / "weights").write_text(f"weights of step {step}")
            history = [{"step": step, "loss": 1.0}, {"step": step, "eval_loss": 0.25}]
            (folder / "trainer_state.json").write_text(json.dumps({"log_history": history}))

        path, manifest = checkpoints.save(
            self.context.folder, write, step=step, token=self.context.claim.token, spec=spec
        )
        if listed:
            with self.studio.store.write() as session:
                rows.add(session, self.context.claim, describe(path, manifest, {}))
        return path

    def resume(self):
        return newest_good(self.context, describe)

    def listed(self):
        with self.studio.store.read() as session:
            return rows.listing(session, self.id)

    def kinds(self):
        with self.studio.store.read() as session:
            return [one.kind for one in jobs.events(session, self.id)]


@pytest.fixture
def run(studio):
    return Run(studio)


def test_a_run_that_has_not_saved_begins_at_the_start(run):
    assert run.resume() is None


def test_the_newest_listed_checkpoint_is_taken(run):
    run.save(3)
    newest = run.save(6)
    run.die()
    assert run.resume() == newest


def test_a_checkpoint_whose_row_was_not_written_is_adopted(run):
    run.save(3)
    left = run.save(6, listed=False)
    run.die()
    assert run.resume() == left
    assert [(one.step, one.eval_loss) for one in run.listed()] == [(3, None), (6, 0.25)]
    assert "checkpoint_adopted" in run.kinds()


def test_the_first_checkpoint_can_be_adopted_too(run):
    left = run.save(3, listed=False)
    run.die()
    assert run.resume() == left


@pytest.mark.parametrize("damage", ["broken", "other_spec", "older"])
def test_a_folder_without_a_row_that_is_no_use_is_swept(run, damage):
    kept = run.save(6)
    left = run.save(3 if damage == "older" else 9, listed=False, spec={"seed": 2} if damage == "other_spec" else SPEC)
    if damage == "broken":
        (left / "weights").write_text("x")
    run.die()
    assert run.resume() == kept
    assert not left.exists() and kept.exists()


def test_a_run_under_another_path_of_the_same_home_loses_nothing(run):
    kept = run.save(3)
    with run.studio.store.write() as session:
        (row,) = rows.listing(session, run.id)
        rows.add(session, run.context.claim, NewCheckpoint(**{
            **{name: getattr(row, name) for name in NewCheckpoint.__dataclass_fields__}, "path": f"/link{row.path}",
        }))  # fmt: skip
    run.die()
    with pytest.raises(Refused):
        run.resume()
    checkpoints.verify(kept)


def test_where_none_can_be_used_only_a_person_may_begin_anew(run):
    paths = [run.save(3), run.save(6)]
    run.die()
    for path in paths:
        (path / "weights").write_text("x")
    with pytest.raises(Refused) as refused:
        run.resume()
    assert (refused.value.reason, refused.value.values) == ("checkpoints_broken", {"steps": "3, 6"})
    run.fail()
    with run.studio.store.write() as session:
        jobs.retry(session, run.id, from_start=True)
    run.claim()
    assert run.resume() is None
    assert not any(path.exists() for path in paths), "what was given up does not fill the disk"


def test_a_run_that_began_anew_resumes_what_it_saved_since_and_never_what_is_older(run):
    run.save(6)
    pinned = run.save(9)
    with run.studio.store.write() as session:
        rows.pin(session, run.id, 9)
    run.fail()
    with run.studio.store.write() as session:
        jobs.retry(session, run.id, from_start=True)
    run.claim()
    assert run.resume() is None, "neither the listed nor the pinned one"
    assert pinned.exists()
    newer = run.save(3)
    run.die()
    assert run.resume() == newer
    assert Path(run.listed()[-1].path) == pinned
