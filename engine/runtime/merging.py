"""The merge process: several checkpoints or models become one, published whole or not at all.

`python -m engine.runtime.merging JOB_ID TOKEN`
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.merging import MERGES
from engine.models import importance, merged, tensors
from engine.models import template as templates
from engine.models.copying import CONFIGS, PLAIN, sanitise
from engine.models.loading import load_model, load_tokenizer, use_threads
from engine.models.merged import How, Whole
from engine.models.tensors import Stored, Weights
from engine.models.weights import read_json
from engine.runtime import checkpoints, child, held_out, merge_sources
from engine.runtime.child import Context, Stopped
from engine.runtime.crashing import crash_here
from engine.runtime.merge_sources import Sources
from engine.runtime.run_data import version_of
from engine.specs.base import validate
from engine.specs.merge import MergeSpec
from engine.specs.problem import ProblemError, problem
from storage import checkpoints as rows
from storage.checkpoints import NewCheckpoint
from storage.datasets import Version
from storage.targets import Target

TELL_EVERY_S = 0.5
FORMATS = {"F32": "float32", "F64": "float32", "BF16": "bfloat16", "F16": "float16"}
TEXTS = tuple(name for name in (*PLAIN, *CONFIGS) if name not in ("README.md", "config.json"))


@dataclass(slots=True)
class Work:
    """One attempt at a merge."""

    context: Context
    spec: MergeSpec
    found: Sequence[Target]
    base: Path
    how: How
    told_at: float = 0.0

    def seen(self, done: int, total: int) -> None:
        """Say how far it is, now and then; leave where it is no longer wanted."""
        if time.monotonic() - self.told_at < TELL_EVERY_S:
            return
        self.told_at = time.monotonic()
        self.look()
        self.context.progress(done, total)

    def look(self) -> None:
        """Leave where the job was cancelled."""
        if self.context.flags().cancel:
            raise Stopped

    @property
    def step(self) -> int:
        return max(one.step or 0 for one in self.found)


def main(context: Context) -> dict[str, Any]:
    """Find, check, merge, publish.

    Raises:
        ProblemError: a source is gone or broken, or they do not fit each other.
        OSError: there is not enough room for the result.
    """
    use_threads()
    spec = validate(MergeSpec, context.spec)
    checkpoints.sweep(context.folder.parent)
    _sweep_unlisted(context)
    context.phase("merge_checking")
    found, base = merge_sources.find(context.store, spec)
    weights = [one.weight for one in spec.sources]
    work = Work(context, spec, found, base, How.of(MERGES[spec.method.kind], spec.method, weights, spec.seed))
    scratch = context.folder / ".scratch"
    try:
        with ExitStack() as stack:
            sources = Sources(stack, scratch, _device())
            return FORMS[spec.form](work, sources, scratch)
    finally:
        merge_sources.sweep(scratch)


def _device() -> str:
    from engine.runtime.device import choose

    return choose("auto").kind


def _sweep_unlisted(context: Context) -> None:
    """Remove what an attempt published that was killed before it could say so."""
    with context.store.read() as session:
        listed = {(one.token, one.step) for one in rows.listing(session, context.job.id)}
    for folder in checkpoints.unlisted(context.folder.parent, listed):
        merge_sources.sweep(folder)


def _as_adapter(work: Work, sources: Sources, _scratch: Path) -> dict[str, Any]:
    """One adapter on the base that all sources stand on."""
    first = work.found[0]
    loras = [sources.adapter(one) for one in work.found]
    changed = {one.text: set(lora.changed) for one, lora in zip(work.found, loras, strict=True)}
    for name, found in changed.items():
        if found != changed[first.text]:
            told: dict[str, Any] = {"first": first.text, "other": name, "tensor": min(found ^ changed[first.text])}
            raise ProblemError([problem("merge_other_layers", field="sources", **told)])
    rank = work.spec.rank or sum(one.rank for one in loras)
    size = sum(4 * rank * sum(shape) for shape in _shapes(first, loras[0].changed))
    checkpoints.require_space(work.context.folder, size)
    work.context.phase("merging")
    kept: list[float] = []

    def write(folder: Path) -> None:
        lost = merged.write_adapter(folder, loras, work.how, rank=rank, seen=work.seen)
        kept.append(lost.share)
        _write_texts(folder, Path(first.adapter_path or ""), work.found)

    _publish(work, write, dtype=first.dtype, adapter_of=first)
    return {"form": "adapter", "rank": rank, "kept": kept[0], "num_tensors": len(loras[0].changed)}


def _shapes(one: Target, names: Sequence[str]) -> list[tuple[int, ...]]:
    with ExitStack() as stack:
        base = Stored(Path(one.base_path))
        stack.callback(base.close)
        return [base.shapes[name] for name in names if name in base.shapes]


def _as_weights(work: Work, sources: Sources, scratch: Path) -> dict[str, Any]:
    """A whole model."""
    changes = work.how.method.of_changes(work.spec.method)
    opened = [sources.weights(one) for one in work.found]
    formats = {FORMATS[one] for one in sources.formats}
    base = sources.unchanged(work.found, work.base) if changes else None
    everything = [*opened, *([base] if base is not None else [])]
    names = [*(one.text for one in work.found), work.spec.base or f"base:{work.spec.model.id}"]
    shapes = merge_sources.common_shapes(everything, names[: len(everything)])
    dtype = work.spec.dtype if work.spec.dtype != "auto" else formats.pop() if len(formats) == 1 else "float32"
    checkpoints.require_space(work.context.folder, tensors.num_bytes(shapes, dtype))
    matters = _importance(work, sources, scratch) if work.how.method.needs_rows else []
    _must_cover(matters, shapes)
    whole = Whole(opened, shapes, base, matters)
    work.context.phase("merging")

    def write(folder: Path) -> None:
        merged.write_weights(folder, whole, work.how, dtype=dtype, seen=work.seen)
        first = Path(work.found[0].base_path)
        config = {**sanitise(read_json(first / "config.json")), "dtype": dtype}
        config.pop("torch_dtype", None)
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf-8")
        _write_texts(folder, first, work.found)

    _publish(work, write, dtype=dtype)
    return {"form": "weights", "dtype": dtype, "num_tensors": len(shapes)}


FORMS = {"adapter": _as_adapter, "weights": _as_weights}


def _importance(work: Work, sources: Sources, scratch: Path) -> list[Weights]:
    """What each source's answers depend on, measured on its own rows unless others are named, kept in files."""
    settings: Any = work.spec.method
    sample = held_out.Sample(settings.rows, settings.max_length, work.spec.seed)
    found: list[Weights] = []
    scratch.mkdir(parents=True, exist_ok=True)
    for place, one in enumerate(work.found):
        work.context.phase("merge_measuring")
        tokenizer = load_tokenizer(one.base_path, adapter=Path(one.adapter_path) if one.adapter_path else None)
        some = held_out.sampled_rows(_version(work, place), tokenizer, sample)
        model = load_model(sources.folder(one), dtype="float32", device=_device())
        name = f"importance-{place}.safetensors"
        importance.keep(importance.measure(model, some, seen=work.look), scratch / name)
        del model
        found.append(sources.measured(scratch, name))
    return found


def _version(work: Work, place: int) -> Version:
    data = work.spec.data or work.spec.sources[place].data
    assert data is not None, "a merge that needs rows is refused without any"
    with work.context.store.read() as session:
        return version_of(session, data)


def _must_cover(matters: Sequence[Weights], shapes: tensors.Shapes) -> None:
    for one in matters:
        missing = [name for name, shape in shapes.items() if one.shapes.get(name) != shape]
        if missing:
            raise ProblemError([problem("merge_importance_missing", field="method", tensor=missing[0])])


def _write_texts(folder: Path, source: Path, found: Sequence[Target]) -> None:
    """Tokenizer, configuration and licence of the first source; the chat template that they agree on."""
    for name in TEXTS:
        if (source / name).is_file():
            (folder / name).write_bytes((source / name).read_bytes())
    template = merge_sources.template_of(found)
    if template is not None:
        (folder / templates.FILE).write_text(template, encoding="utf-8")


def _publish(work: Work, write: Any, *, dtype: str, adapter_of: Target | None = None) -> None:
    """Put the result in its place and list it; from then on it is a target like any checkpoint."""
    context = work.context
    path, manifest = checkpoints.save(
        context.folder, write, step=work.step, token=context.claim.token, spec=context.spec
    )
    new = NewCheckpoint(
        step=work.step,
        path=str(path),
        manifest_sha=manifest.sha256,
        bytes=manifest.num_bytes,
        base_path=adapter_of.base_path if adapter_of else str(path),
        quantization=adapter_of.quantization if adapter_of else "none",
        dtype=dtype,
        is_adapter=adapter_of is not None,
        pinned=True,
    )
    with context.store.write() as session:
        rows.add(session, context.claim, new)
    crash_here("merge_listed")


if __name__ == "__main__":
    child.run(main)
