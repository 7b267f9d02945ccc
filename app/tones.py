"""The tone of a job's state: the same colour on every page."""

from __future__ import annotations

from storage.states import State

TONES = {
    State.QUEUED: "waiting",
    State.RUNNING: "accent",
    State.SUCCEEDED: "good",
    State.FAILED: "bad",
    State.CANCELLED: "plain",
}
