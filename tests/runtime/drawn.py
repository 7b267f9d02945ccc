"""What a store has of a run's samples, in a form that two runs can be compared in."""

from __future__ import annotations

from typing import Any

from storage import samples
from storage.database import Store


def drawn(store: Store, job_id: int) -> dict[int, list[tuple[Any, ...]]]:
    """Step → the answers with their rewards, newest step first."""
    with store.read() as session:
        return {
            step: [
                (one.place, one.prompt, one.completion, one.reward) for one in samples.of_step(session, job_id, step)
            ]
            for step in samples.steps(session, job_id)
        }
