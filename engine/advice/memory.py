"""What makes a run need less memory, the cheapest first: what changes nothing learned, then what costs the least."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.advice.advice import Advice
from engine.optimizers import OPTIMIZERS
from engine.specs.job import JobSpec
from engine.tuners import TUNERS

SHORT_ROWS = 256
SMALL_RANK = 8
SMALL_OPTIMIZER = "adamw_8bit"


def remedies(spec: JobSpec, batch_size: int) -> list[Advice]:
    """Each with the settings to change as its value, by field path; `batch_size` is that of the attempt that failed."""
    return [advice for rule in RULES if (advice := rule(spec, batch_size)) is not None]


def smaller_batch(batch_size: int, least: int = 1) -> int | None:
    """The most rows, up to half as many and no fewer than `least`, that still divide the batch; None where none do."""
    return next((rows for rows in range(batch_size // 2, least - 1, -1) if batch_size % rows == 0), None)


def _smaller_batch(spec: JobSpec, batch_size: int) -> Advice | None:
    size = smaller_batch(batch_size, spec.objective.needs().least_batch)
    if size is None:
        return None
    change = {"training.batch_size": size, "training.gradient_accumulation": spec.effective_batch // size}
    values = {"batch": size, "accumulation": change["training.gradient_accumulation"]}
    return Advice(change, "memory_batch", values)


def _checkpointing(spec: JobSpec, batch_size: int) -> Advice | None:
    del batch_size
    if spec.training.gradient_checkpointing:
        return None
    return Advice({"training.gradient_checkpointing": True}, "memory_checkpointing", {}, "measured")


def _optimizer(spec: JobSpec, batch_size: int) -> Advice | None:
    """What the optimiser keeps is worth it where all weights move; an adapter's is small."""
    del batch_size
    kept, less = OPTIMIZERS[spec.training.optimizer].state_bytes, OPTIMIZERS[SMALL_OPTIMIZER].state_bytes
    if _is_adapter(spec) or kept <= less:
        return None
    values = {"times": round(kept / less)}
    change: dict[str, Any] = {"training.optimizer": SMALL_OPTIMIZER}
    return Advice(change, "memory_optimizer", values, "measured")


def _quantise(spec: JobSpec, batch_size: int) -> Advice | None:
    """An adapter that is trained further stands on the base that it was made on."""
    del batch_size
    allowed = "nf4" not in TUNERS[spec.tuner.kind].refuses
    if not allowed or spec.model.quantization == "nf4" or spec.model.start_from is not None:
        return None
    return Advice({"model.quantization": "nf4"}, "memory_quantise", {}, "measured")


def _adapter(spec: JobSpec, batch_size: int) -> Advice | None:
    del batch_size
    if _is_adapter(spec) or spec.model.start_from is not None:
        return None
    return Advice({"tuner.kind": "lora", "model.quantization": "nf4"}, "memory_adapter", {}, "measured")


def _shorter_rows(spec: JobSpec, batch_size: int) -> Advice | None:
    del batch_size
    if spec.data.max_length <= SHORT_ROWS:
        return None
    length = spec.data.max_length // 2
    return Advice({"data.max_length": length}, "memory_rows", {"length": length})


def _rank(spec: JobSpec, batch_size: int) -> Advice | None:
    del batch_size
    tuner: Any = spec.tuner
    rank = getattr(tuner, "rank", 0)
    if rank <= SMALL_RANK or spec.model.start_from is not None:
        return None
    return Advice({f"tuner.{tuner.kind}.rank": rank // 2}, "memory_rank", {"rank": rank // 2})


def _smaller_model(spec: JobSpec, batch_size: int) -> Advice:
    del spec, batch_size
    return Advice({}, "memory_model")


def _is_adapter(spec: JobSpec) -> bool:
    return TUNERS[spec.tuner.kind].is_adapter


RULES: tuple[Callable[[JobSpec, int], Advice | None], ...] = (
    _smaller_batch,
    _checkpointing,
    _optimizer,
    _quantise,
    _adapter,
    _shorter_rows,
    _rank,
    _smaller_model,
)
