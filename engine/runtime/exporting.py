"""The export process: writes a checkpoint out, loads it back, and publishes it only if it agrees with the run.

`python -m engine.runtime.exporting JOB_ID TOKEN`
"""

from __future__ import annotations

import gc
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.files import publish
from engine.models.agreement import Agreement
from engine.models.loading import use_threads
from engine.models.sources import Source
from engine.runtime.chat import choose_device
from engine.runtime.checkpoints import sha256_of
from engine.runtime.child import Context, Refused, Stopped, run
from engine.runtime.device import weights_bytes
from engine.runtime.export_card import card_of
from engine.runtime.export_checks import CHECKS, Check
from engine.runtime.export_order import Order, find, source_of, written_in
from engine.specs.base import validate
from engine.specs.other import ExportSpec

SPACE_FACTOR = 1.2


def main(context: Context) -> Mapping[str, Any]:
    """Write, load back, compare, publish.

    Raises:
        ProblemError: the target, its checkpoint or its data cannot be used.
        Refused: the export is too far from the run's own model (`export_not_verified`).
    """
    use_threads()
    order = find(context.store, validate(ExportSpec, context.spec))
    device, _reason = choose_device(Path(order.target.base_path), order.target.quantization)
    source = source_of(order, device)
    staged = context.home.exports / f".tmp-{context.claim.job_id}-{context.claim.token}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True, mode=0o700)
    try:
        return _export(context, order, source, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _export(context: Context, order: Order, source: Source, staged: Path) -> Mapping[str, Any]:
    _enter(context, "export_reference")
    check = CHECKS[order.target.head](context, order, source)
    source = check.source
    gc.collect()
    _check_space(context.home.exports, source)
    tried: list[dict[str, Any]] = []
    for kind in order.exporter.formats(source):
        source = written_in(source, kind)
        _empty(staged)
        _enter(context, "export_writing")
        order.exporter.write(source, staged)
        source.write_texts(staged, stop_ids=check.stop_ids)
        gc.collect()
        _enter(context, "export_checking")
        written = order.exporter.load_back(source, staged)
        agreement = check.agreement(written, staged)
        del written
        tried.append({"format": kind, "agreement": agreement.top1, "kl": _number(agreement.kl)})
        checks = {**_judge(order, check, agreement, staged), "format": kind, "tried": tried}
        if checks["passed"]:
            break
    else:
        raise Refused("export_not_verified", checks, {"form": order.spec.form, "checks": checks})
    lines = list(order.exporter.lines(source, f"export-{context.claim.job_id}"))
    (staged / "README.md").write_text(card_of(order, checks, lines), encoding="utf-8")
    _enter(context, "export_publishing")
    final = context.home.exports / str(context.claim.job_id)
    publish(staged, final)
    return {
        "path": str(final),
        "form": order.spec.form,
        "base": order.spec.base,
        "target": order.target.text,
        "lines": lines,
        "files": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(final.iterdir())
        ],
        "checks": checks,
    }


def _judge(order: Order, check: Check, agreement: Agreement, staged: Path) -> dict[str, Any]:
    limits = order.limits
    same_tokens = check.same_tokens(staged)
    close = agreement.top1 >= limits.min_agreement and agreement.kl <= limits.max_kl
    return {
        "passed": close and same_tokens,
        "agreement": agreement.top1,
        "kl": _number(agreement.kl),
        "min_agreement": limits.min_agreement,
        "max_kl": limits.max_kl,
        **check.told(),
        "same_tokens": same_tokens,
    }


def _number(value: float) -> float | None:
    """None for what is no number: weights that a format cannot hold."""
    return value if math.isfinite(value) else None


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()


def _enter(context: Context, phase: str) -> None:
    if context.flags().cancel:
        raise Stopped
    context.phase(phase)


def _check_space(folder: Path, source: Source) -> None:
    """Two bytes a weight are written; the base's own files are at least that."""
    wanted = int(SPACE_FACTOR * weights_bytes(source.base_path))
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OSError(28, f"No space left on device: the export needs {wanted} bytes, {free} are free")


if __name__ == "__main__":
    run(main)
