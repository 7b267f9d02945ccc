"""The states of a job and the table of the moves between them."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job stands. Phases, pauses and wishes to stop are columns beside it, not states."""

    QUEUED = "queued"
    """Waits to be claimed; held or delayed jobs wait too."""
    RUNNING = "running"
    """One attempt holds it, under a lease and a token."""
    SUCCEEDED = "succeeded"
    """Done, also when a person stopped it and kept the result."""
    FAILED = "failed"
    """Ended with a reason; a person may retry it."""
    CANCELLED = "cancelled"
    """Ended by a person; a person may retry it."""


TRANSITIONS: dict[State, frozenset[State]] = {
    State.QUEUED: frozenset({State.RUNNING, State.CANCELLED}),
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}

FINAL: frozenset[State] = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})
