"""What an ended child means: a pure function of its exit code and its result marker."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from engine.specs.problem import Problem


class Exit(IntEnum):
    """The exit codes that a child speaks in; the same ones end the command line."""

    DONE = 0
    SPEC = 64
    DATA = 65
    MODEL = 66
    INTERNAL = 70
    NON_FINITE = 71
    OUT_OF_MEMORY = 72
    DISK_FULL = 73
    STOPPED = 75
    FENCED = 76


class Kind(IntEnum):
    """What the worker does with an attempt that ended."""

    DONE = 0
    STOPPED = 1
    """Asked for; the flags say whether it is paused, cancelled or handed over."""
    FAILED = 2
    """The fault of spec, data, model or code: trying again would end the same."""
    LOST = 3
    """The fault of the machine: tried again after a pause."""
    FENCED = 4
    """The claim was no longer ours; nothing is written."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, for people (`reason` and `values`) and for the worker (`kind`)."""

    kind: Kind
    exit_code: int | None
    signal: int | None
    reason: str
    values: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None


_REASONS = {
    Exit.SPEC: "bad_spec",
    Exit.DATA: "bad_data",
    Exit.MODEL: "model_unavailable",
    Exit.INTERNAL: "internal_error",
    Exit.NON_FINITE: "non_finite",
    Exit.OUT_OF_MEMORY: "out_of_memory",
    Exit.DISK_FULL: "disk_full",
}
_OF_THE_MACHINE = frozenset({"device_fault"})
"""Reasons that a child gives by name and that are not the fault of its work."""


def outcome_of(returncode: int, marker: Mapping[str, Any] | None) -> Outcome:
    """Classify an ended child. `returncode` is `Popen`'s: negative for a signal. `marker` is its result file."""
    if returncode < 0:
        number = -returncode
        name = signal.Signals(number).name if number in set(signal.Signals) else str(number)
        return Outcome(Kind.LOST, None, number, "killed", {"signal": name})
    said = marker or {}
    values = dict(said.get("values") or {})
    if problems := said.get("problems"):
        values["problems"] = problems
    if returncode == Exit.DONE:
        if said.get("ok"):
            reason = str(said.get("reason") or "done")
            return Outcome(Kind.DONE, 0, None, reason, values, said.get("result") or {})
        return Outcome(Kind.FAILED, 0, None, "no_result")
    if returncode == Exit.STOPPED:
        return Outcome(Kind.STOPPED, returncode, None, "stopped", values)
    if returncode == Exit.FENCED:
        return Outcome(Kind.FENCED, returncode, None, "fenced")
    default = _REASONS[Exit(returncode)] if returncode in set(_REASONS) else "unexpected_exit"
    reason = str(said.get("reason") or default)
    kind = Kind.LOST if reason in _OF_THE_MACHINE else Kind.FAILED
    return Outcome(kind, returncode, None, reason, values, said.get("result"))


def exit_of(problems: tuple[Problem, ...]) -> Exit:
    """The exit code that fits the first problem's family."""
    family = problems[0].code.split("_", 1)[0] if problems else "internal"
    families = {"data": Exit.DATA, "row": Exit.DATA, "file": Exit.DATA, "model": Exit.MODEL, "hub": Exit.MODEL}
    return families.get(family, Exit.SPEC)
