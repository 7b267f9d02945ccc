"""Where a run starts: the base model, or an earlier run's checkpoint on its base."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models.copying import must_be_unchanged
from engine.models.loading import dequantised, load_adapter, load_model
from engine.objectives import OBJECTIVES
from engine.runtime import checkpoints
from engine.runtime.device import Device
from engine.specs.job import JobSpec
from engine.specs.problem import ProblemError, problem
from engine.tuners import TUNERS
from engine.tuners.protocol import Given
from storage import models
from storage.database import Store
from storage.errors import StoreError
from storage.targets import Target, resolve

if TYPE_CHECKING:
    from engine.runtime.building import Rows


@dataclass(frozen=True, slots=True)
class Start:
    """What to load: a base folder and, if a run goes on from an adapter, that adapter's folder."""

    base: Path
    adapter: Path | None
    quantization: str
    dtype: str
    is_adapter: bool
    """Whether this run's own checkpoints hold adapters."""
    head: str
    """What its model gives: see `engine/objectives/protocol.py`."""

    @property
    def goes_on(self) -> bool:
        """Whether the earlier run's adapter itself is trained further."""
        return self.is_adapter and self.adapter is not None


def find(store: Store, spec: JobSpec, device: Device) -> Start:
    """Resolve the spec's model section.

    Raises:
        ProblemError: the model or checkpoint is not there, is broken or changed, or does not fit the tuner.
    """
    tuner, head = TUNERS[spec.tuner.kind], OBJECTIVES[spec.objective.kind].head
    wanted = spec.model.dtype
    if wanted == "auto":
        wanted = "bfloat16" if tuner.is_adapter and device.bf16 else "float32"
    try:
        with store.read() as session:
            target = resolve(session, spec.model.start_from) if spec.model.start_from else None
            base = Path(target.base_path if target else models.get(session, spec.model.id).path)
    except StoreError as error:
        given = spec.model.start_from or spec.model.id
        raise ProblemError([problem("model_not_there", field="model", given=given)]) from error
    if target is not None:
        _check(target, spec, tuner.is_adapter)
        if head == "classifier" and target.adapter_path:
            raise ProblemError([problem("start_from_adapter", field="model.start_from", target=target.text)])
    must_be_unchanged(base)
    if target is None:
        return Start(base, None, spec.model.quantization, wanted, tuner.is_adapter, head)
    adapter = Path(target.adapter_path) if target.adapter_path else None
    dtype = target.dtype if adapter and tuner.is_adapter else wanted
    # An adapter stands on the base that it was trained on; all weights are merged from just that one.
    quantization = target.quantization if adapter else spec.model.quantization
    return Start(base, adapter, quantization, dtype, tuner.is_adapter, head)


def _check(target: Target, spec: JobSpec, is_adapter: bool) -> None:
    folder = Path(target.adapter_path or target.base_path)
    try:
        checkpoints.verify(folder)
    except checkpoints.BrokenCheckpoint as error:
        told: dict[str, Any] = {"checkpoint": target.text, "detail": error.why, "file": error.file}
        raise ProblemError([problem("model_checkpoint_broken", field="model.start_from", **told)]) from error
    if not (is_adapter and target.adapter_path):
        return
    if target.quantization != spec.model.quantization:
        values: dict[str, Any] = {"given": spec.model.quantization, "allowed": target.quantization}
        found = problem("start_from_quantization", field="model.quantization", target=target.text, **values)
        raise ProblemError([found])
    rank = _adapter_rank(folder)
    if rank != getattr(spec.tuner, "rank", rank):
        values = {"given": getattr(spec.tuner, "rank", None), "allowed": rank, "target": target.text}
        raise ProblemError([problem("start_from_rank", field="tuner.rank", **values)])


def _adapter_rank(folder: Path) -> Any:
    import json

    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("r")


def load(start: Start, spec: JobSpec, device: Device, rows: Rows) -> Any:
    """Load the model with exactly the tuner's weights trainable; new weights are drawn from the run's seed."""
    from transformers import set_seed

    set_seed(spec.seed)
    tuner, labels = TUNERS[spec.tuner.kind], rows.labels
    task = "SEQ_CLS" if labels else "CAUSAL_LM"
    given = Given(task, rows.steps.total, rows.train, rows.tokenizer, start.quantization)
    if start.adapter is None:
        how: dict[str, Any] = {"quantization": start.quantization, "dtype": start.dtype, "labels": labels}
        model = load_model(start.base, **how, device=device.kind)
        return tuner.prepare(model, spec.tuner, given)
    if start.goes_on:
        return _going_on(start, device)
    return tuner.prepare(_merged(start, device), spec.tuner, given)


def _going_on(start: Start, device: Device) -> Any:
    from peft import PeftModel

    model = load_model(start.base, quantization=start.quantization, dtype=start.dtype, device=device.kind)
    return PeftModel.from_pretrained(model, str(start.adapter), is_trainable=True, use_safetensors=True)


def _merged(start: Start, device: Device) -> Any:
    """All weights, the adapter folded in: merged in float32, never in 4 bits."""
    assert start.adapter is not None
    base = dequantised(start.base, quantization=start.quantization, dtype="float32", device=device.kind)
    return load_adapter(base, start.adapter).merge_and_unload()


def load_reference(start: Start, device: Device) -> Any:
    """A frozen second copy of the start, for objectives that compare with it while all weights move."""
    if start.adapter is not None:
        return _merged(start, device).requires_grad_(False).eval()
    return load_model(
        start.base, quantization=start.quantization, dtype=start.dtype, device=device.kind
    ).requires_grad_(False)
