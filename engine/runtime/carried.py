"""What the library's trainer adds up between two points of the curves and does not save; our checkpoints hold it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FILE = "carried.json"


def carried(trainer: Any) -> dict[str, Any]:
    """The sums since the last point: of the loss, of the objective's own figures, and of all tokens so far.

    With them the rows of a batch: what a step counts in.
    """
    return {
        "loss": trainer._tr_loss.item(),
        "last_logged": trainer._globalstep_last_logged,
        "tokens": getattr(trainer, "_total_train_tokens", 0),
        "metrics": {name: list(values) for name, values in _figures(trainer).items()},
        "batch_size": trainer.args.per_device_train_batch_size,
    }


def put_back(trainer: Any, sums: dict[str, Any]) -> None:
    """Go on adding from these sums."""
    trainer._tr_loss.fill_(sums["loss"])
    trainer._globalstep_last_logged = sums["last_logged"]
    trainer._total_train_tokens = sums["tokens"]
    figures = _figures(trainer)
    figures.clear()
    figures.update({name: list(values) for name, values in sums["metrics"].items()})


def _figures(trainer: Any) -> dict[str, list[float]]:
    """TRL's own figures of a training step, each a list until the next point."""
    found: dict[str, list[float]] = getattr(trainer, "_metrics", {}).get("train", {})
    return found


def write(trainer: Any, folder: Path) -> None:
    """Write the sums into a checkpoint that is being made."""
    (folder / FILE).write_text(json.dumps(carried(trainer)), encoding="utf-8")


def read(folder: Path) -> dict[str, Any] | None:
    """The sums of a checkpoint; None in one of an earlier version."""
    path = folder / FILE
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
