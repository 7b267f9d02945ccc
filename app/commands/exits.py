"""The exit codes of the command line and what they are read from."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

from engine.specs.problem import Problem
from storage.jobs import Attempt, Job
from storage.states import State


class Code(IntEnum):
    """What a command ends with."""

    DONE = 0
    USAGE = 64
    """Bad spec or usage."""
    DATA = 65
    MODEL = 66
    INTERNAL = 70
    """Internal fault, lost, stalled or killed, export not verified."""
    NON_FINITE = 71
    OUT_OF_MEMORY = 72
    DISK_FULL = 73
    STOPPED = 75
    """A waited job was cancelled or paused."""
    FENCED = 76


FAMILIES = {
    "data": Code.DATA,
    "dataset": Code.DATA,
    "row": Code.DATA,
    "file": Code.DATA,
    "file_no_room": Code.DISK_FULL,
    "export_no_room": Code.DISK_FULL,
    "model": Code.MODEL,
    "hub": Code.MODEL,
    "checkpoint": Code.MODEL,
    "no_checkpoint": Code.MODEL,
    "store": Code.INTERNAL,
    "store_no_room": Code.DISK_FULL,
    "store_file_there": Code.USAGE,
    "store_folder_missing": Code.USAGE,
    "store_backup_missing": Code.USAGE,
    "store_backup_postgresql": Code.USAGE,
    "store_restore_postgresql": Code.USAGE,
    "store_in_use": Code.USAGE,
    "internal": Code.INTERNAL,
    "chat_died": Code.INTERNAL,
    "chat_ended": Code.INTERNAL,
    "out_of_memory": Code.OUT_OF_MEMORY,
    "fenced": Code.FENCED,
}


def of_code(code: str) -> Code:
    """Return the exit code of a problem by the family of its code."""
    return FAMILIES.get(code) or FAMILIES.get(code.split("_", 1)[0], Code.USAGE)


def of_problems(problems: Sequence[Problem]) -> Code:
    """Return the exit code of the first problem."""
    return of_code(problems[0].code) if problems else Code.USAGE


def of_job(job: Job, attempts: Sequence[Attempt]) -> Code:
    """Return how a waited job ends the command that waited."""
    if job.state == State.SUCCEEDED:
        return Code.DONE
    if job.state == State.FAILED:
        said = attempts[-1].exit_code if attempts else None
        spoken = said in set(Code) and said not in (Code.DONE, Code.STOPPED, Code.FENCED)
        return Code(said) if spoken and said is not None else Code.INTERNAL
    return Code.DISK_FULL if job.reason == "disk_full" else Code.STOPPED
