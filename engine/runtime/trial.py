"""The trial: two steps of a run on its longest rows, to measure time and peak memory. Nothing of it is kept."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

from engine.runtime import child
from engine.runtime.child import Context
from engine.specs.job import JobSpec, parse

NUM_STEPS = 2


def main(context: Context) -> dict[str, Any]:
    """Return `seconds_per_step` (the second's: the first warms up), `peak_memory_bytes`, `device`, `start_seconds`."""
    context.phase("loading")
    from engine.models.loading import use_threads

    use_threads()
    context.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=context.folder) as spare:
        return _measured(context, _two_steps(parse(context.spec["run"])), Path(spare))


def _measured(context: Context, spec: JobSpec, spare: Path) -> dict[str, Any]:
    from engine.runtime import own_base, start
    from engine.runtime.building import Frame, build, prepare
    from engine.runtime.device import choose, peak_memory_bytes
    from engine.runtime.others import means_of

    began = time.monotonic()
    device = choose(spec.resources.devices)
    begin = own_base.tried_on(spare, start.find(context.store, spec, device), spec.model, device)
    rows = prepare(context, spec, begin)
    frame = Frame(spec, device, begin, context.folder, means_of(context, device, None))
    model = start.load(begin, spec, device, rows)
    clock = _clock()
    trainer = build(frame, model=model, rows=_longest(rows, spec), save=_keep_nothing, watch=clock, measure_start=False)
    context.phase("measuring")
    loaded = time.monotonic()
    trainer.train()
    return {
        "seconds_per_step": round(clock.seconds[-1], 3),
        "peak_memory_bytes": peak_memory_bytes(device.kind),
        "device": device.kind,
        "start_seconds": round(loaded - began, 1),
    }


def _two_steps(spec: JobSpec) -> JobSpec:
    quiet = {
        "max_steps": NUM_STEPS,
        "epochs": 1000.0,
        "eval_every_steps": None,
        "save_every_steps": 1_000_000,
        "early_stopping_patience": None,
        "best_by": "loss",
    }
    return spec.model_copy(update={"training": spec.training.model_copy(update=quiet)})


def _longest(rows: Any, spec: JobSpec) -> Any:
    from dataclasses import replace

    from engine.runtime.beginning import longest

    return replace(
        rows,
        train=rows.train.select(longest(rows.train, spec.effective_batch * NUM_STEPS)),
        evaluation=None,
        steps=replace(rows.steps, eval_every=None, save_every=1_000_000),
    )


def _keep_nothing(step: int, write: Any) -> None:
    del step, write


def _clock() -> Any:
    """The callback that times the steps; the library is imported only in the child."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def __init__(self) -> None:
            self.seconds: list[float] = []
            self._began = 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self._began = time.monotonic()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.seconds.append(time.monotonic() - self._began)

    return Clock()


if __name__ == "__main__":
    child.run(main)
