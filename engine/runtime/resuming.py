"""Where an attempt goes on: the newest checkpoint that verifies, one whose row was not written included."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.runtime import checkpoints
from engine.runtime.checkpoints import BrokenCheckpoint, Manifest
from engine.runtime.child import Context, Refused
from storage import checkpoints as checkpoint_rows
from storage import jobs
from storage.checkpoints import Checkpoint, NewCheckpoint

STATE = "trainer_state.json"
Describe = Callable[[Path, Manifest, Mapping[str, float]], NewCheckpoint]
"""The row of a checkpoint folder with this manifest, and what was measured at its evaluation."""


def newest_good(context: Context, describe: Describe, *, seen: Callable[[], None] = lambda: None) -> Path | None:
    """The folder to resume from; None where the run has not saved yet. What is skipped is said.

    `seen` is called at each block of a checkpoint that is read.

    Raises:
        Refused: the run has checkpoints and none can be used; only a person may let it begin anew.
    """
    with context.store.read() as session:
        rows = checkpoint_rows.listing(session, context.job.id)
        since = jobs.restarted_after(session, context.job.id)
    _adopt(context, rows, since, describe, seen)
    with context.store.read() as session:
        rows = [row for row in checkpoint_rows.listing(session, context.job.id) if row.token > since]
    for row in reversed(rows):
        if _is_good(context, row, seen):
            return Path(row.path)
    if rows:
        raise Refused("checkpoints_broken", {"steps": ", ".join(str(row.step) for row in rows)}, {})
    return None


def _is_good(context: Context, row: Checkpoint, seen: Callable[[], None]) -> bool:
    try:
        found = checkpoints.verify(Path(row.path), seen=seen)
    except BrokenCheckpoint as error:
        context.event("checkpoint_skipped", {"step": row.step, "why": error.why, "file": error.file})
        return False
    if found.spec_sha != checkpoints.spec_sha(context.spec):
        context.event("checkpoint_skipped", {"step": row.step, "why": "other_spec"})
        return False
    return True


def _adopt(context: Context, rows: list[Checkpoint], since: int, describe: Describe, seen: Callable[[], None]) -> None:
    """List the checkpoints that are newer than the listed ones and verify; other folders without a row go."""
    newest = max((row.step for row in rows if row.token > since), default=0)
    for folder in checkpoints.unlisted(context.folder.parent, {(row.token, row.step) for row in rows}):
        try:
            manifest = checkpoints.verify(folder, seen=seen)
        except BrokenCheckpoint:
            manifest = None
        ours = manifest is not None and manifest.spec_sha == checkpoints.spec_sha(context.spec)
        if manifest is None or not ours or manifest.token <= since or manifest.step <= newest:
            shutil.rmtree(folder, ignore_errors=True)
            continue
        with context.store.write() as session:
            new = describe(folder, manifest, _evaluated(folder, manifest.step))
            checkpoint_rows.add(session, context.claim, new)
            jobs.event(session, context.claim, "checkpoint_adopted", {"step": manifest.step})


def _evaluated(folder: Path, step: int) -> Mapping[str, float]:
    if not (folder / STATE).is_file():
        return {}
    history = json.loads((folder / STATE).read_text(encoding="utf-8"))["log_history"]
    return next((one for one in history if one["step"] == step and "eval_loss" in one), {})
