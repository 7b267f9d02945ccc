"""Where a run starts: the base model, or an earlier run's checkpoint on its base."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.models.copying import must_be_unchanged
from engine.models.loading import dequantised, dtype_of, keep_4_bit_weights, load_adapter, load_model
from engine.objectives import OBJECTIVES
from engine.runtime import checkpoints, quickening
from engine.runtime.device import Device
from engine.specs.heads import other_head
from engine.specs.job import JobSpec
from engine.specs.problem import ProblemError, problem
from engine.specs.starting import Way, way_of
from engine.tuners import TUNERS
from engine.tuners.protocol import Given, Restoring, Tuner
from storage import jobs, models
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
    """The form that the base is loaded in."""
    dtype: str
    is_adapter: bool
    """Whether this run's own checkpoints hold adapters."""
    head: str
    """What its model gives: see `engine/objectives/protocol.py`."""
    way: Way | None = None
    """What becomes of the earlier run's adapter; None where there is none."""

    @property
    def goes_on(self) -> bool:
        """Whether the earlier run's adapter itself is trained further."""
        return self.way == "continue"

    @property
    def folds(self) -> bool:
        """Whether the run's own adapters stand on a base that the earlier adapter is folded into."""
        return self.is_adapter and self.way == "merge"


def find(store: Store, spec: JobSpec, device: Device) -> Start:
    """Resolve the spec's model section.

    Raises:
        ProblemError: the model or checkpoint is not there, is broken or changed, or does not fit the tuner;
            what shall make it quicker is not to be had here.
    """
    quickening.check(spec, device)
    tuner, head = TUNERS[spec.tuner.kind], OBJECTIVES[spec.objective.kind].head
    wanted = spec.model.dtype
    if wanted == "auto":
        wanted = "bfloat16" if tuner.is_adapter and device.bf16 else "float32"
    before: dict[str, Any] = {}
    try:
        with store.read() as session:
            target = resolve(session, spec.model.start_from) if spec.model.start_from else None
            base = Path(target.base_path if target else models.get(session, spec.model.id).path)
            if target is not None and target.job_id is not None:
                before = jobs.get(session, target.job_id).spec
    except StoreError as error:
        given = spec.model.start_from or spec.model.id
        raise ProblemError([problem("model_not_there", field="model", given=given)]) from error
    if target is not None:
        _verify(spec, target)
    must_be_unchanged(base)
    if target is None or target.adapter_path is None:
        return Start(base, None, spec.model.quantization, wanted, tuner.is_adapter, head)
    way, problems = way_of(spec, before, target.quantization, target.text)
    if problems:
        raise ProblemError(problems)
    # An adapter stands on the base that it was trained on, and is folded into just that one.
    dtype = target.dtype if way == "continue" else wanted
    return Start(base, Path(target.adapter_path), target.quantization, dtype, tuner.is_adapter, head, way)


def _verify(spec: JobSpec, target: Target) -> None:
    try:
        checkpoints.verify(Path(target.adapter_path or target.base_path))
    except checkpoints.BrokenCheckpoint as error:
        told: dict[str, Any] = {"checkpoint": target.text, "detail": error.why, "file": error.file}
        raise ProblemError([problem("model_checkpoint_broken", field="model.start_from", **told)]) from error
    has_adapter = target.adapter_path is not None
    if found := other_head(spec, target=target.text, head=target.head, has_adapter=has_adapter):
        raise ProblemError([found])


def load(start: Start, spec: JobSpec, device: Device, rows: Rows) -> Any:
    """Load the model with exactly the tuner's weights trainable; new weights are drawn from the run's seed."""
    from transformers import set_seed

    set_seed(spec.seed)
    tuner, labels = TUNERS[spec.tuner.kind], rows.labels
    task = "SEQ_CLS" if labels else "CAUSAL_LM"
    given = Given(task, rows.steps.total, rows.train, rows.tokenizer, spec.model.new_tokens, start.goes_on)
    how: dict[str, Any] = {"quantization": start.quantization, "dtype": start.dtype, "labels": labels}
    base = folded(start, device, labels) if start.way == "merge" else load_model(start.base, **how, device=device.kind)
    keep_4_bit_weights(base)  # before a tuner looks through it at the data
    if spec.training.kernels == "liger":
        quickening.use_liger(base)  # before a tuner wraps the norms: their kernels would read the frozen ones below
    model = tuner.prepare(base, spec.tuner, given)
    if start.adapter is not None and start.way != "merge":
        _take_up(model, tuner, start.adapter)
    return model


def _take_up(model: Any, tuner: Tuner, folder: Path) -> None:
    """Give a new adapter the weights of an earlier run's."""
    from peft import load_peft_weights, set_peft_model_state_dict

    def load() -> None:
        set_peft_model_state_dict(model, load_peft_weights(str(folder), device="cpu"))

    if isinstance(tuner, Restoring):
        tuner.restore(model, folder, load, goes_on=True)
    else:
        load()


def folded(start: Start, device: Device, labels: Sequence[str] = ()) -> Any:
    """All weights in the run's number format, the adapter folded in: merged in float32, never in 4 bits."""
    from engine.exporters.merged import merge

    assert start.adapter is not None
    how: dict[str, Any] = {"quantization": start.quantization, "dtype": "float32", "labels": labels}
    base = dequantised(start.base, **how, device=device.kind)
    return merge(load_adapter(base, start.adapter)).to(dtype_of(start.dtype))


def load_reference(start: Start, device: Device) -> Any:
    """A frozen second copy of the start, for objectives that compare with it while all weights move."""
    if start.adapter is not None:
        return folded(start, device).requires_grad_(False).eval()
    return load_model(
        start.base, quantization=start.quantization, dtype=start.dtype, device=device.kind
    ).requires_grad_(False)
