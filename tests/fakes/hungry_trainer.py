"""The trainer on a machine whose memory takes few rows: `ATELIER_HUNGRY_ROWS` at the trial, `ATELIER_HUNGRY_LATER` from step 5 on."""

from __future__ import annotations

import os
from typing import Any

from engine.runtime import child
from engine.runtime.child import Context

LATER = 5


def main(context: Context) -> dict[str, Any]:
    from engine.runtime import beginning, trainer
    from engine.runtime.watching import Watch

    try_longest, on_step_end = beginning.try_longest, Watch.on_step_end

    def tried(one: Any) -> None:
        try_longest(one)
        _take(one.args.per_device_train_batch_size, os.environ["ATELIER_HUNGRY_ROWS"])

    def stepped(self: Any, args: Any, state: Any, control: Any, **named: Any) -> None:
        on_step_end(self, args, state, control, **named)
        if state.global_step >= LATER:
            _take(args.per_device_train_batch_size, os.environ["ATELIER_HUNGRY_LATER"])

    beginning.is_ample = lambda _trainer, _free: False
    beginning.try_longest, Watch.on_step_end = tried, stepped  # type: ignore[method-assign]
    return trainer.main(context)


def _take(rows: int, room: str) -> None:
    if rows > int(room):
        raise MemoryError(f"{rows} rows")


if __name__ == "__main__":
    child.run(main)
