"""Each way a child can end, in one table."""

from __future__ import annotations

import pytest

from engine.runtime.outcome import Exit, Kind, exit_of, outcome_of
from engine.specs.problem import problem

OK = {"ok": True, "reason": "done", "result": {"steps": 3}}


@pytest.mark.parametrize(
    ("code", "marker", "kind", "reason"),
    [
        (0, OK, Kind.DONE, "done"),
        (0, {**OK, "reason": "stopped_at_step"}, Kind.DONE, "stopped_at_step"),
        (0, None, Kind.FAILED, "no_result"),
        (0, {"ok": False}, Kind.FAILED, "no_result"),
        (64, {"ok": False, "reason": "spec_too_large"}, Kind.FAILED, "spec_too_large"),
        (64, None, Kind.FAILED, "bad_spec"),
        (65, None, Kind.FAILED, "bad_data"),
        (66, None, Kind.FAILED, "model_unavailable"),
        (70, None, Kind.FAILED, "internal_error"),
        (70, {"ok": False, "reason": "device_fault"}, Kind.LOST, "device_fault"),
        (71, None, Kind.FAILED, "non_finite"),
        (72, None, Kind.FAILED, "out_of_memory"),
        (73, None, Kind.FAILED, "disk_full"),
        (75, None, Kind.STOPPED, "stopped"),
        (76, None, Kind.FENCED, "fenced"),
        (1, None, Kind.FAILED, "unexpected_exit"),
        (2, None, Kind.FAILED, "unexpected_exit"),
        (-9, None, Kind.LOST, "killed"),
        (-9, OK, Kind.LOST, "killed"),
        (-15, None, Kind.LOST, "killed"),
    ],
)
def test_an_exit_code_and_a_marker_have_one_meaning(code, marker, kind, reason):
    found = outcome_of(code, marker)
    assert (found.kind, found.reason) == (kind, reason)


def test_a_result_is_kept_only_with_exit_0_and_its_marker():
    assert outcome_of(0, OK).result == {"steps": 3}
    assert outcome_of(-9, OK).result is None


def test_the_signal_of_a_killed_child_is_named():
    assert outcome_of(-9, None).values == {"signal": "SIGKILL"}


@pytest.mark.parametrize(
    ("code", "expected"),
    [("data_not_there", Exit.DATA), ("row_no_answer", Exit.DATA), ("file_not_utf8", Exit.DATA), ("model_pickle", Exit.MODEL),
     ("hub_unreachable", Exit.MODEL), ("spec_too_large", Exit.SPEC), ("start_from_rank", Exit.SPEC)],
)  # fmt: skip
def test_a_problem_decides_the_exit_code_by_its_family(code, expected):
    assert exit_of((problem(code),)) is expected
