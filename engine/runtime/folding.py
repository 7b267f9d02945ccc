"""The base of a run that starts from another's adapter folded in: a folder of its own, the run's checkpoint 0."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.models import template as templates
from engine.models.copying import CONFIGS, PLAIN
from engine.runtime import checkpoints
from engine.runtime.checkpoints import BrokenCheckpoint
from engine.runtime.child import Context
from engine.runtime.device import Device
from engine.runtime.start import Start, folded
from storage import checkpoints as checkpoint_rows
from storage.checkpoints import NewCheckpoint

STEP = 0


def on_own_base(context: Context, begin: Start, device: Device, *, seen: Callable[[], None]) -> Start:
    """The start of a run whose adapters stand on a base that it makes itself; made once, kept as long as the run.

    `seen` is called on the way.
    """
    base = _made(context, seen) or _make(context, begin, device, seen)
    return replace(begin, base=base, adapter=None, quantization="none", way=None)


def _made(context: Context, seen: Callable[[], None]) -> Path | None:
    with context.store.read() as session:
        rows = checkpoint_rows.listing(session, context.job.id)
    for row in rows:
        if row.step != STEP:
            continue
        try:
            checkpoints.verify(Path(row.path), seen=seen)
        except BrokenCheckpoint as error:
            context.event("checkpoint_skipped", {"step": STEP, "why": error.why, "file": error.file})
            return None
        return Path(row.path)
    return None


def _make(context: Context, begin: Start, device: Device, seen: Callable[[], None]) -> Path:
    def write(folder: Path) -> None:
        model: Any = folded(begin, device)
        model.save_pretrained(str(folder))
        _texts(begin, folder)

    told: dict[str, Any] = {"step": STEP, "token": context.claim.token, "spec": context.spec}
    path, manifest = checkpoints.save(context.folder, write, seen=seen, **told)
    new = NewCheckpoint(
        step=STEP,
        path=str(path),
        manifest_sha=manifest.sha256,
        bytes=manifest.num_bytes,
        base_path=str(path),
        quantization="none",
        dtype=begin.dtype,
        is_adapter=False,
        pinned=True,
        head=begin.head,
    )
    with context.store.write() as session:
        checkpoint_rows.add(session, context.claim, new)
    context.event("adapter_folded", {"target": context.spec["model"]["start_from"]})
    return path


def _texts(begin: Start, folder: Path) -> None:
    """Put the tokenizer beside the weights, with the chat template that the adapter spoke with."""
    for name in (*PLAIN, *CONFIGS):
        if (begin.base / name).is_file() and not (folder / name).exists():
            shutil.copyfile(begin.base / name, folder / name)
    kept = templates.find(begin.adapter) if begin.adapter else None
    if kept is not None:
        (folder / templates.FILE).write_text(kept, encoding="utf-8")
