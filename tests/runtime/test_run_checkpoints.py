"""A checkpoint is whole and proved, or it is not used."""

from __future__ import annotations

import errno
import shutil
from collections import namedtuple

import pytest

from engine.runtime import checkpoints
from engine.runtime.checkpoints import BrokenCheckpoint

SPEC = {"seed": 1}


def save(parent, step=4, text="weights"):
    return checkpoints.save(
        parent, lambda folder: (folder / "a.safetensors").write_text(text), step=step, token=2, spec=SPEC
    )


def test_a_saved_checkpoint_verifies_and_names_its_step_token_and_spec(tmp_path):
    path, manifest = save(tmp_path)
    assert path.name == "checkpoint-4"
    assert (manifest.step, manifest.token, manifest.spec_sha) == (4, 2, checkpoints.spec_sha(SPEC))
    assert checkpoints.verify(path) == manifest


def _truncate(path):
    (path / "a.safetensors").write_text("weigh")


def _flip(path):
    (path / "a.safetensors").write_text("weighTs")


def _add(path):
    (path / "extra.bin").write_text("x")


def _empty_manifest(path):
    (path / "manifest.json").write_text("")


def _foreign_manifest(path):
    (path / "manifest.json").write_text("[]")


@pytest.mark.parametrize(
    "damage",
    [
        _truncate, _flip, _add, _empty_manifest, _foreign_manifest,
        lambda path: (path / "a.safetensors").unlink(), lambda path: (path / "manifest.json").unlink(), shutil.rmtree,
    ],
)  # fmt: skip
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    path, _ = save(tmp_path)
    damage(path)
    with pytest.raises(BrokenCheckpoint):
        checkpoints.verify(path)


def test_a_file_of_another_size_is_found_without_its_digest(tmp_path):
    path, _ = save(tmp_path)
    _flip(path)
    checkpoints.verify(path, deep=False)
    _truncate(path)
    with pytest.raises(BrokenCheckpoint, match="other_size"):
        checkpoints.verify(path, deep=False)


def test_a_save_that_fails_leaves_earlier_checkpoints_and_no_rest(tmp_path):
    path, _ = save(tmp_path, step=4)

    def fail(folder):
        (folder / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        checkpoints.save(tmp_path, fail, step=8, token=2, spec=SPEC)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-4"]
    checkpoints.verify(path)


def test_a_long_save_and_a_long_proof_tell_that_they_move(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "BLOCK", 1000)
    beats = []

    def write(folder):
        (folder / "a.safetensors").write_bytes(bytes(10_000))

    path, _ = checkpoints.save(tmp_path, write, step=4, token=2, spec=SPEC, seen=lambda: beats.append("save"))
    checkpoints.verify(path, seen=lambda: beats.append("proof"))
    assert beats.count("save") >= 10 + 2, "at each block that is summed up and each file that is flushed"
    assert beats.count("proof") >= 10


def test_no_save_begins_without_room_for_it(tmp_path, monkeypatch):
    save(tmp_path, step=4)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 10, 0))
    with pytest.raises(OSError, match="No space left on device: a checkpoint needs"):
        save(tmp_path, step=8)


def test_what_a_killed_save_left_is_swept(tmp_path):
    attempt = tmp_path / "attempt-1"
    save(attempt)
    (attempt / ".tmp-8-1").mkdir()
    checkpoints.sweep(tmp_path)
    assert [one.name for one in attempt.iterdir()] == ["checkpoint-4"]
