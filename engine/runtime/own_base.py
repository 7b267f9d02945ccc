"""The base that a run makes for itself, as its checkpoint 0: an earlier adapter folded in, new tokens added."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.models import template as templates
from engine.models.copying import CONFIGS, PLAIN
from engine.models.loading import load_model, load_tokenizer
from engine.models.vocabulary import make_room, missing
from engine.runtime import checkpoints
from engine.runtime.checkpoints import BrokenCheckpoint
from engine.runtime.child import Context
from engine.runtime.device import Device, weights_bytes
from engine.runtime.start import Start, folded
from engine.specs.job import ModelPart
from engine.specs.problem import ProblemError, problem
from storage import checkpoints as checkpoint_rows
from storage.checkpoints import NewCheckpoint

STEP = 0


def start_on(context: Context, begin: Start, wanted: ModelPart, device: Device, *, seen: Callable[[], None]) -> Start:
    """The start of a run on a base that it makes itself, where it needs one; made once, kept as long as the run.

    `seen` is called on the way.

    Raises:
        ProblemError: `start_adds_tokens`, new tokens are for a model with a head of its own.
        NoSpace: the disk has no room for it.
    """
    tokens = _new_tokens(begin, wanted)
    if not begin.folds and not tokens:
        return begin
    return _standing_on(begin, _made(context, seen) or _make(context, begin, wanted, device, seen))


def tried_on(folder: Path, begin: Start, wanted: ModelPart, device: Device) -> Start:
    """The start of a trial: on a base in the trial's own `folder` where there are new tokens.

    Raises:
        ProblemError, NoSpace: as of `start_on`.
    """
    if not _new_tokens(begin, wanted):
        return begin
    base = folder / "base"
    base.mkdir(parents=True)
    _require_space(folder, begin)
    _write(base, begin, wanted, device)
    return _standing_on(begin, base)


def _standing_on(begin: Start, base: Path) -> Start:
    quantization = "none" if begin.way == "merge" else begin.quantization
    return replace(begin, base=base, adapter=None, quantization=quantization, way=None)


def _new_tokens(begin: Start, wanted: ModelPart) -> list[str]:
    """Those that the start does not have yet: a run that goes on with another's finds its tokens there."""
    if not wanted.new_tokens:
        return []
    tokens = missing(load_tokenizer(begin.base), wanted.new_tokens)
    config = json.loads((begin.base / "config.json").read_text(encoding="utf-8"))
    if tokens and any(one.endswith("ForSequenceClassification") for one in config.get("architectures") or ()):
        target = wanted.start_from or wanted.id
        raise ProblemError([problem("start_adds_tokens", field="model.add_tokens", target=target)])
    return tokens


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


def _make(context: Context, begin: Start, wanted: ModelPart, device: Device, seen: Callable[[], None]) -> Path:
    _require_space(context.folder, begin)
    told: dict[str, Any] = {"step": STEP, "token": context.claim.token, "spec": context.spec}
    write = lambda folder: _write(folder, begin, wanted, device)  # noqa: E731
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
    )
    with context.store.write() as session:
        checkpoint_rows.add(session, context.claim, new)
    if begin.adapter:
        context.event("adapter_folded", {"target": wanted.start_from})
    if wanted.new_tokens:
        context.event("tokens_added", {"tokens": " ".join(wanted.new_tokens)})
    return path


def _require_space(folder: Path, begin: Start) -> None:
    """Room for the weights; in float32 those of a base of 16 bits take twice theirs."""
    checkpoints.require_space(folder, weights_bytes(begin.base) * (2 if begin.dtype == "float32" else 1))


def _write(folder: Path, begin: Start, wanted: ModelPart, device: Device) -> None:
    model: Any = folded(begin, device) if begin.adapter else load_model(begin.base, dtype=begin.dtype)
    if wanted.new_tokens:
        _add_tokens(model, begin, wanted, folder)
    model.save_pretrained(str(folder))
    _texts(begin, folder)


def _add_tokens(model: Any, begin: Start, wanted: ModelPart, folder: Path) -> None:
    how: dict[str, Any] = {"chat_template": wanted.chat_template, "new_tokens": wanted.new_tokens}
    new = missing(load_tokenizer(begin.base), wanted.new_tokens)
    tokenizer = load_tokenizer(begin.base, adapter=begin.adapter, **how)
    if new:
        make_room(model, tokenizer, new)
    tokenizer.save_pretrained(str(folder))


def _texts(begin: Start, folder: Path) -> None:
    """Put the tokenizer beside the weights, with the chat template that the adapter spoke with."""
    for name in (*PLAIN, *CONFIGS):
        if (begin.base / name).is_file() and not (folder / name).exists():
            shutil.copyfile(begin.base / name, folder / name)
    kept = templates.find(begin.adapter) if begin.adapter else None
    if kept is not None:
        (folder / templates.FILE).write_text(kept, encoding="utf-8")
