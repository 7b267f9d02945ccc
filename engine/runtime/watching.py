"""The callback in the trainer's loop: curves out, wishes in, and an end to what is not a number."""

from __future__ import annotations

import math
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

from transformers import TrainerCallback

from engine.runtime.child import Diverged, NonFinite
from engine.runtime.crashing import crash_here
from engine.runtime.device import peak_memory_bytes
from engine.runtime.reporting import Reporter
from storage.errors import Fenced
from storage.metrics import Point

SAVE_AT_LEAST_EVERY_S = 600.0
LEARNED = 1e-3
"""A loss below it may have no gradient: there is nothing left to learn."""
_LEFT_OUT = ("runtime", "per_second", "epoch", "total_flos", "train_loss", "num_input_tokens_seen")


@dataclass(frozen=True, slots=True)
class Wish:
    """How the run was asked to end: `cancel`, `pause` (also the machine's own wish), `stop`."""

    kind: str


class Watch(TrainerCallback):
    """Reports each step and ends the run at a step's end when it is asked to."""

    def __init__(
        self, reporter: Reporter, *, claim: Any, device: str, total: int, keep_every: int | None = None
    ) -> None:
        self._reporter, self._claim, self._device, self._total = reporter, claim, device, total
        self._keep_every = keep_every
        self._terminated = threading.Event()
        self._began = self._saved = time.monotonic()
        self._busy_s = 0.0
        self.tokens = 0.0
        """Trained tokens up to the last point."""
        self.wish: Wish | None = None
        self.evaluated: dict[int, dict[str, float]] = {}
        """What was measured at the evaluation of a step."""
        signal.signal(signal.SIGTERM, lambda *_: self._terminated.set())

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._began = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._busy_s += time.monotonic() - self._began
        crash_here(f"step_{state.global_step}")
        self._reporter.step(state.global_step, self._total)
        if self._reporter.fenced.is_set():
            raise Fenced("job", self._claim.job_id, self._claim.token)
        self.wish = self._asked()
        last = state.global_step >= self._total
        if self.wish is not None and not last:
            control.should_training_stop = True
            control.should_save = self.wish.kind != "cancel"
        elif last or self._is_kept(state.global_step) or time.monotonic() - self._saved > SAVE_AT_LEAST_EVERY_S:
            control.should_save = True

    def _is_kept(self, step: int) -> bool:
        return self._keep_every is not None and step % self._keep_every == 0

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._reporter.beat()

    def on_prediction_step(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._reporter.beat()

    def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_training_stop and self.wish is None:  # early stopping, which by itself saves nothing
            control.should_save = True

    def _asked(self) -> Wish | None:
        flags = self._reporter.flags
        if flags.cancel:
            return Wish("cancel")
        if flags.stop:
            return Wish("stop")
        return Wish("pause") if flags.pause or self._terminated.is_set() else None

    def between_answers(self) -> bool:
        """Say that it moves; return whether the rest has to be left out."""
        self._reporter.beat()
        return self.must_leave()

    def must_leave(self) -> bool:
        """Whether work after the last step has to be left out: the process is ending or the run is cancelled."""
        return self._terminated.is_set() or self._reporter.flags.cancel or self._reporter.fenced.is_set()

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._saved = time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any) -> None:
        step = state.global_step
        values = {name: float(value) for name, value in (logs or {}).items() if isinstance(value, int | float)}
        points = [
            Point(name, step, value if math.isfinite(value) else None)
            for name, value in values.items()
            if "/" in name or not any(part in name for part in _LEFT_OUT)
        ]
        if "loss" in values:
            points += self._speed(step, values)
        if "eval_loss" in values:
            self.evaluated[step] = values
        self._reporter.put(points)
        self._stop_if_astray(step, values)

    def _speed(self, step: int, values: dict[str, float]) -> list[Point]:
        points = [Point("memory_bytes", step, float(peak_memory_bytes(self._device)))]
        if "num_tokens" in values and self._busy_s > 0:
            done = values["num_tokens"] - self.tokens
            self.tokens = values["num_tokens"]
            points.append(Point("tokens_per_second", step, done / self._busy_s))
        self._busy_s = 0.0
        return points

    def _stop_if_astray(self, step: int, values: dict[str, float]) -> None:
        for name in ("loss", "grad_norm", "eval_loss"):
            if name in values and not math.isfinite(values[name]):
                raise NonFinite(step, name)
        # Weights so large that the normalisation overflows give equal logits: a bad loss, finite, without a gradient.
        if values.get("grad_norm") == 0.0 and values["loss"] > LEARNED:
            raise Diverged(step, values["loss"])
