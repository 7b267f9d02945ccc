"""The export process: writes a checkpoint out, loads it back, and publishes it only if it agrees with the chat.

`python -m engine.runtime.exporting JOB_ID TOKEN`
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.exporters import EXPORTERS
from engine.exporters.card import Card, render
from engine.exporters.protocol import Exporter
from engine.models.agreement import Agreement, Row, compare, log_probabilities
from engine.models.loading import load_tokenizer, use_threads
from engine.models.serving import Served
from engine.models.sources import Source
from engine.runtime import held_out
from engine.runtime.answering import check_checkpoint
from engine.runtime.chat import choose_device
from engine.runtime.checkpoints import MANIFEST, sha256_of
from engine.runtime.child import Context, Refused, Stopped, run
from engine.runtime.files import publish
from engine.runtime.held_out import Answers
from engine.specs.base import validate
from engine.specs.job import JobSpec, parse
from engine.specs.other import ExportSpec
from engine.specs.problem import ProblemError, problem
from storage import checkpoints, jobs, models, targets
from storage.checkpoints import Checkpoint
from storage.datasets import Version
from storage.errors import StoreError
from storage.jobs import Job
from storage.models import Model
from storage.targets import Target

SPACE_FACTOR = 1.2


@dataclass(frozen=True, slots=True)
class Order:
    """What is exported, with everything the store knows of it."""

    spec: ExportSpec
    target: Target
    run: Job
    run_spec: JobSpec
    checkpoint: Checkpoint
    base: Model | None
    version: Version

    @property
    def base_name(self) -> str:
        """What the base is called elsewhere: its hub id, else its name here."""
        if self.base is None:
            return "base"
        return str(self.base.facts.get("hub_id") or self.base.name)


def main(context: Context) -> Mapping[str, Any]:
    """Write, load back, compare, publish.

    Raises:
        ProblemError: the target, its checkpoint or its data cannot be used.
        Refused: the export is too far from the chat (`export_not_verified`).
    """
    use_threads()
    spec = validate(ExportSpec, context.spec)
    order = _order(context, spec)
    exporter = _exporter(order)
    device, _reason = choose_device(Path(order.target.base_path), order.target.quantization)
    source = _source(order, device)
    staged = context.home.exports / f".tmp-{context.claim.job_id}-{context.claim.token}"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True, mode=0o700)
    try:
        return _export(context, order, exporter, source, staged)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _export(context: Context, order: Order, exporter: Exporter, source: Source, staged: Path) -> Mapping[str, Any]:
    _enter(context, "export_reference")
    served = Served(source.base_path, quantization=source.quantization, dtype=source.dtype, device=source.device)
    answers = held_out.answers(order.version, order.run_spec, served.renderer, vocab_size=_vocabulary(served))
    with served.speaking(source.adapter_path) as chat:
        reference = log_probabilities(chat, answers.rows)
    stop_ids = served.stop_ids
    del served, chat
    gc.collect()
    _enter(context, "export_writing")
    _check_space(context.home.exports, source)
    exporter.write(source, staged)
    source.write_texts(staged, stop_ids=stop_ids)
    gc.collect()
    _enter(context, "export_checking")
    agreement = compare(reference, log_probabilities(exporter.load_back(source, staged), answers.rows))
    checks = _checks(order, answers, agreement, same_tokens=_same_tokens(staged, order, answers))
    if not checks["passed"]:
        raise Refused("export_not_verified", checks, {"form": order.spec.form, "checks": checks})
    lines = list(exporter.lines(f"export-{context.claim.job_id}", order.base_name))
    (staged / "README.md").write_text(render(_card(order, checks, lines)), encoding="utf-8")
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


def _order(context: Context, spec: ExportSpec) -> Order:
    try:
        with context.store.read() as session:
            target = targets.resolve(session, spec.target)
            assert target.job_id is not None and target.step is not None  # noqa: S101  the spec's pattern
            run_job = jobs.get(session, target.job_id)
            checkpoint = checkpoints.get(session, target.job_id, target.step)
            run_spec = parse(run_job.spec)
            version = held_out.version_of(session, run_spec)
            base = next((one for one in models.listing(session) if one.path == checkpoint.base_path), None)
    except StoreError as error:
        raise ProblemError(
            [problem("spec_target_missing", field="target", given=spec.target, detail=error.code)]
        ) from error
    return Order(spec, target, run_job, run_spec, checkpoint, base, version)


def _exporter(order: Order) -> Exporter:
    exporter = EXPORTERS.get(order.spec.form)
    if exporter is None:
        allowed = ", ".join(EXPORTERS)
        raise ProblemError([problem("spec_not_a_choice", field="form", given=order.spec.form, allowed=allowed)])
    if exporter.needs_adapter and order.target.adapter_path is None:
        raise ProblemError([problem("spec_export_needs_adapter", field="form", form=order.spec.form)])
    return exporter


def _source(order: Order, device: str) -> Source:
    target = order.target
    for path in (target.adapter_path, target.base_path):
        if path is not None and (Path(path) / MANIFEST).exists():
            check_checkpoint(Path(path), deep=True)
    return Source(
        base_path=Path(target.base_path),
        base_name=order.base_name,
        quantization=target.quantization,
        dtype=target.dtype,
        adapter_path=Path(target.adapter_path) if target.adapter_path else None,
        original=order.spec.base == "original",
        device=device,
    )


def _enter(context: Context, phase: str) -> None:
    if context.flags().cancel:
        raise Stopped
    context.phase(phase)


def _check_space(folder: Path, source: Source) -> None:
    """Two bytes a weight are written; the safetensors of a 32-bit base are twice that."""
    wanted = int(SPACE_FACTOR * sum(path.stat().st_size for path in source.base_path.glob("*.safetensors")))
    free = shutil.disk_usage(folder).free
    if free < wanted:
        raise OSError(28, f"No space left on device: the export needs {wanted} bytes, {free} are free")


def _vocabulary(served: Served) -> int:
    return max(1, len(served.tokenizer))


def _same_tokens(staged: Path, order: Order, answers: Answers) -> bool:
    """Whether the exported tokenizer and template give the very tokens that the chat's give."""
    from engine.data.render import Renderer

    again = Renderer(load_tokenizer(staged))
    return all(
        row == answers.rows[place] for place, row in enumerate(held_out.rows_of(answers.raw, order.run_spec, again))
    )


def _checks(order: Order, answers: Answers, agreement: Agreement, *, same_tokens: bool) -> dict[str, Any]:
    limits = {"min_agreement": order.spec.min_agreement, "max_kl": order.spec.max_kl}
    passed = agreement.top1 >= order.spec.min_agreement and agreement.kl <= order.spec.max_kl and same_tokens
    return {
        "passed": passed,
        "agreement": agreement.top1,
        "kl": agreement.kl,
        "num_tokens": agreement.num_tokens,
        "num_rows": len(answers.rows),
        "rows_from": answers.sources,
        "same_tokens": same_tokens,
        **limits,
    }


def _card(order: Order, checks: Mapping[str, Any], lines: list[str]) -> Card:
    spec, version = order.run_spec, order.version
    return Card(
        title=spec.name,
        base_name=order.base_name,
        licence=order.base.licence if order.base else None,
        lines=lines,
        sections={
            "Data": {
                "dataset": version.name,
                "version": version.version,
                "sha256": version.sha256,
                "rows": version.usable_rows,
                "evaluation share": spec.data.eval_fraction,
                "longest row (tokens)": spec.data.max_length,
            },
            "Method": {
                **{f"objective {key}": value for key, value in spec.objective.model_dump().items()},
                **{f"tuner {key}": value for key, value in spec.tuner.model_dump().items()},
                "base in training": f"{order.target.quantization}, {order.target.dtype}",
                "seed": spec.seed,
            },
            "Settings": spec.training.model_dump(),
            "Scores": {
                "checkpoint": order.target.text,
                "step": order.checkpoint.step,
                "evaluation loss": order.checkpoint.eval_loss,
            },
            "Check against the chat": {
                "form": f"{order.spec.form}, base {order.spec.base}",
                "answer tokens compared": checks["num_tokens"],
                "rows from": ", ".join(f"{name} {count}" for name, count in checks["rows_from"].items()),
                "same likeliest token": f"{checks['agreement']:.4f} (at least {checks['min_agreement']})",
                "mean KL divergence (nats)": f"{checks['kl']:.5f} (at most {checks['max_kl']})",
            },
        },
    )


if __name__ == "__main__":
    run(main)
