"""When jobs will begin and end: a table of queues, and what earlier runs tell about a new one."""

from __future__ import annotations

from typing import Any

import pytest

from app.forecast import Earlier, Span, Work, forecast, seconds_left, seconds_needed

NOW = 1000.0
ONE = {"gpu": 1, "cpu": 2}


def gpu(id: int, seconds: float | None, **more: Any) -> Work:
    return Work(id, "gpu", seconds, **more)


def cpu(id: int, seconds: float | None, **more: Any) -> Work:
    return Work(id, "cpu", seconds, **more)


UNKNOWN = (None, None)

QUEUES: dict[str, tuple[list[Work], dict[str, int], dict[int, tuple[float | None, float | None]]]] = {
    "an idle lane takes the first at once and the next after it": (
        [gpu(1, 60), gpu(2, 30)], ONE, {1: (1000, 1060), 2: (1060, 1090)},
    ),
    "a running job is waited for": ([gpu(1, 100, running=True), gpu(2, 50)], ONE, {1: (1000, 1100), 2: (1100, 1150)}),
    "behind a running job of unknown length nothing is known": (
        [gpu(1, None, running=True), gpu(2, 50)], ONE, {1: (1000, None), 2: UNKNOWN},
    ),
    "a waiting job of unknown length begins, and what is behind it is not known": (
        [gpu(1, None), gpu(2, 50)], ONE, {1: (1000, None), 2: UNKNOWN},
    ),
    "a held job neither begins nor is waited for": ([gpu(1, 60, held=True), gpu(2, 30)], ONE, {1: UNKNOWN, 2: (1000, 1030)}),
    "a delayed job is overtaken": (
        [gpu(1, 60, not_before=1500), gpu(2, 30)], ONE, {1: (1500, 1560), 2: (1000, 1030)},
    ),
    "a delay that has passed is none": ([gpu(1, 60, not_before=900)], ONE, {1: (1000, 1060)}),
    "a job that is due while another runs waits for it": (
        [gpu(1, 60, not_before=1010), gpu(2, 300)], ONE, {2: (1000, 1300), 1: (1300, 1360)},
    ),
    "two light jobs run side by side and the third takes the first free place": (
        [cpu(1, 100), cpu(2, 10), cpu(3, 10)], ONE, {1: (1000, 1100), 2: (1000, 1010), 3: (1010, 1020)},
    ),
    "one free place beside a job of unknown length": (
        [cpu(1, None, running=True), cpu(2, 10), cpu(3, 10)], ONE, {1: (1000, None), 2: (1000, 1010), 3: UNKNOWN},
    ),
    "the lanes do not wait for each other": ([gpu(1, None, running=True), cpu(2, 10)], ONE, {1: (1000, None), 2: (1000, 1010)}),
    "without a worker nothing begins": ([gpu(1, 60)], {"gpu": 0, "cpu": 0}, {1: UNKNOWN}),
    "two workers take two heavy jobs": ([gpu(1, 60), gpu(2, 60)], {"gpu": 2}, {1: (1000, 1060), 2: (1000, 1060)}),
    "an empty queue": ([], ONE, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", QUEUES)
def test_the_queue_is_played_through(name):
    work, room, expected = QUEUES[name]
    assert forecast(work, room, NOW) == {job: Span(*span) for job, span in expected.items()}


def spec(**changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = {
        "model": {"id": "starter", "quantization": "none"},
        "data": {"dataset": "tickets", "version": 1, "max_length": 512, "packing": False, "eval_fraction": 0.1},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora", "rank": 16},
        "training": {"batch_size": 4, "gradient_accumulation": 2, "epochs": 3.0, "learning_rate": 1e-4},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        made[section][key] = value
    return made


NEEDED: dict[str, tuple[dict[str, Any], dict[str, Any], list[Earlier], float | None]] = {
    "its own pace and its own steps": (spec(), {"step": 40, "total": 100, "pace_s": 2.0}, [], 120.0),
    "an earlier run with the same settings": (spec(), {}, [Earlier(spec(), 90, 2.0)], 180.0),
    "another learning rate takes as long": (spec(training__learning_rate=1.0), {}, [Earlier(spec(), 90, 2.0)], 180.0),
    "twice the epochs are twice the steps": (spec(training__epochs=6.0), {}, [Earlier(spec(), 90, 2.0)], 360.0),
    "steps are capped where the run is": (spec(training__max_steps=10), {}, [Earlier(spec(), 90, 2.0)], 20.0),
    "a capped run tells nothing about a longer one": (spec(), {}, [Earlier(spec(training__max_steps=10), 10, 2.0)], None),
    "another model is no measure": (spec(model__id="other"), {}, [Earlier(spec(), 90, 2.0)], None),
    "another longest row is no measure": (spec(data__max_length=1024), {}, [Earlier(spec(), 90, 2.0)], None),
    "another rank is no measure": (spec(tuner__rank=64), {}, [Earlier(spec(), 90, 2.0)], None),
    "other rows tell the pace but not the steps": (spec(data__dataset="other"), {}, [Earlier(spec(), 90, 2.0)], None),
    "other rows tell the pace of known steps": (spec(data__dataset="other"), {"total": 10}, [Earlier(spec(), 90, 2.0)], 20.0),
    "the same rows go before the newest": (
        spec(), {}, [Earlier(spec(data__dataset="other"), 9, 7.0), Earlier(spec(), 90, 2.0)], 180.0,
    ),
    "a run without a pace is passed over": (spec(), {}, [Earlier(spec(), 90, None), Earlier(spec(), 90, 3.0)], 270.0),
    "nothing earlier is not yet known": (spec(), {}, [], None),
    "a run past its last step needs nothing more": (spec(), {"step": 11, "total": 10, "pace_s": 1.0}, [], 0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_what_a_run_still_takes(name):
    wanted, own, earlier, expected = NEEDED[name]
    assert seconds_needed(wanted, **{"step": 0, "total": None, "pace_s": None, **own}, earlier=earlier) == expected


@pytest.mark.parametrize(
    ("took", "elapsed", "expected"),
    [([], 0.0, None), ([9.0], 0.0, 9.0), ([900.0, 10.0, 20.0], 0.0, 20.0), ([10.0, 20.0], 5.0, 10.0), ([10.0], 10.0, None)],
    ids=["the first of its kind", "as the one before", "the middle one", "less what it has run", "longer than usual"],
)  # fmt: skip
def test_what_a_job_without_steps_still_takes(took, elapsed, expected):
    assert seconds_left(took, elapsed) == expected
