"""The export process: writes a checkpoint out, loads it back, and publishes it only if it agrees with the chat.

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
from engine.models.agreement import Agreement, compare, log_probabilities, tokens_wanted
from engine.models.loading import load_tokenizer, use_threads
from engine.models.serving import Served
from engine.models.sources import Source
from engine.runtime import held_out
from engine.runtime.chat import choose_device
from engine.runtime.checkpoints import sha256_of
from engine.runtime.child import Context, Refused, Stopped, run
from engine.runtime.device import arithmetic, weights_bytes
from engine.runtime.export_card import card_of
from engine.runtime.export_order import Order, find, source_of, written_in
from engine.runtime.held_out import Answers
from engine.specs.base import validate
from engine.specs.other import ExportSpec

SPACE_FACTOR = 1.2


def main(context: Context) -> Mapping[str, Any]:
    """Write, load back, compare, publish.

    Raises:
        ProblemError: the target, its checkpoint or its data cannot be used.
        Refused: the export is too far from the chat (`export_not_verified`).
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
    answers, reference, stop_ids = _chat_says(order, source)
    gc.collect()
    _check_space(context.home.exports, source)
    tried: list[dict[str, Any]] = []
    for kind in order.exporter.formats(source):
        source = written_in(source, kind)
        _empty(staged)
        _enter(context, "export_writing")
        order.exporter.write(source, staged)
        source.write_texts(staged, stop_ids=stop_ids)
        gc.collect()
        _enter(context, "export_checking")
        written = order.exporter.load_back(source, staged)
        agreement = compare(reference, log_probabilities(written, answers.rows))
        del written
        tried.append({"format": kind, "agreement": agreement.top1, "kl": _number(agreement.kl)})
        checks = {**_judge(order, answers, agreement, staged), "format": kind, "tried": tried}
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


def _chat_says(order: Order, source: Source) -> tuple[Answers, Any, list[int]]:
    """What the chat's model thinks of the answers of rows that it was not trained on."""
    base, kind, device = source.base_path, source.quantization, source.device
    dtype = arithmetic(base, quantization=kind, dtype=source.dtype, device=device)
    served = Served(base, quantization=kind, dtype=dtype, device=device)
    wanted = tokens_wanted(served.vocab_size, source.device)
    voice = served.voice(source.adapter_path)
    answers = held_out.answers(order.version, order.run_spec, voice.renderer, wanted=wanted)
    with served.speaking(source.adapter_path) as chat:
        return answers, log_probabilities(chat, answers.rows), voice.stop_ids


def _judge(order: Order, answers: Answers, agreement: Agreement, staged: Path) -> dict[str, Any]:
    limits = order.limits
    same_tokens = _same_tokens(order, answers, staged)
    caution = held_out.caution(answers.sources)
    close = agreement.top1 >= limits.min_agreement and agreement.kl <= limits.max_kl
    return {
        "passed": close and same_tokens,
        "agreement": agreement.top1,
        "kl": _number(agreement.kl),
        "min_agreement": limits.min_agreement,
        "max_kl": limits.max_kl,
        "num_tokens": agreement.num_tokens,
        "num_rows": len(answers.rows),
        "tokens_from": answers.sources,
        "caution": caution.as_dict() if caution else None,
        "same_tokens": same_tokens,
    }


def _same_tokens(order: Order, answers: Answers, staged: Path) -> bool:
    """Whether the exported tokenizer and template give the very tokens that the chat's give."""
    from engine.data.render import Renderer

    again = Renderer(load_tokenizer(staged))
    length = order.run_spec.data.max_length
    found = [row for said in answers.said for row in held_out.rows_of(said, length, again)]
    return found == list(answers.rows)


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
