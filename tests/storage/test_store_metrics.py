"""Curves: no point twice, none lost, none from a ghost; long ones are thinned without hiding their extremes."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as tuned
from hypothesis import strategies as st
from sqlalchemy import text

from storage import jobs, metrics
from storage.database import Store
from storage.errors import Fenced, NotFound
from storage.jobs import Claim, Settlement
from storage.metrics import Point
from tests.stores import POSTGRESQL

Call = Callable[..., Any]


def test_points_come_back_by_curve_in_order_of_steps(running: Claim, write: Call, read: Call) -> None:
    write(metrics.append, running, [Point("loss", 2, 0.5), Point("lr", 1, 1e-4), Point("loss", 1, 0.75)])
    assert read(metrics.series, running.job_id) == {"loss": [(1, 0.75), (2, 0.5)], "lr": [(1, 1e-4)]}
    assert read(metrics.series, running.job_id, names=["lr"]) == {"lr": [(1, 1e-4)]}
    assert read(metrics.latest, running.job_id) == {"loss": (2, 0.5), "lr": (1, 1e-4)}


def test_values_that_are_not_finite_are_gaps(running: Claim, write: Call, read: Call) -> None:
    write(metrics.append, running, [Point("loss", n, v) for n, v in enumerate([1.0, math.nan, math.inf, None])])
    assert read(metrics.series, running.job_id) == {"loss": [(0, 1.0), (1, None), (2, None), (3, None)]}


def test_a_step_written_again_takes_the_new_value(running: Claim, write: Call, read: Call) -> None:
    write(metrics.append, running, [Point("loss", 1, 1.0)])
    write(metrics.append, running, [Point("loss", 1, 2.0), Point("loss", 1, 3.0)])
    assert read(metrics.series, running.job_id) == {"loss": [(1, 3.0)]}


def test_an_empty_batch_still_proves_the_claim(running: Claim, write: Call) -> None:
    write(metrics.append, running, [])
    write(jobs.settle, running, Settlement("requeue"))
    with pytest.raises(Fenced):
        write(metrics.append, running, [])


def test_a_batch_of_a_lost_attempt_leaves_no_point_at_all(running: Claim, claim: Call, write: Call, read: Call) -> None:
    write(jobs.settle, running, Settlement("requeue"))
    claim()
    with pytest.raises(Fenced):
        write(metrics.append, running, [Point("loss", step, 1.0) for step in range(100)])
    assert read(metrics.series, running.job_id) == {}


@POSTGRESQL
def test_a_poll_reads_the_new_points_and_not_whole_curves(store: Store, running: Claim, write: Call) -> None:
    """Of a table that the server knows nothing about yet, it would rather take the index of the curves."""
    rows = text(
        "INSERT INTO metric (job_id, name, step, token, value, at, version) "
        "SELECT :job_id, 'series ' || (i % 20), i / 20, 1, 1.0, i, 0 FROM generate_series(1, 40000) AS i"
    )
    write(lambda session: session.execute(rows, {"job_id": running.job_id}))
    write(metrics.append, running, [Point("series 1", 9999, 1.0)])
    names = [f"series {number}" for number in range(8)]
    with store.read() as session:
        found = metrics.newer(session, running.job_id, after=0, names=names)
        read = text("SELECT idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'metric'")
        assert found.series == {"series 1": [(9999, 1.0)]}
        assert session.execute(read).scalar() == 1


def test_a_late_point_never_takes_the_place_of_one_of_a_newer_attempt(
    running: Claim, claim: Call, write: Call, read: Call
) -> None:
    write(jobs.settle, running, Settlement("requeue"))
    write(metrics.append, claim(), [Point("loss", 1, 1.0)])
    with contextlib.suppress(Fenced):
        write(metrics.append, running, [Point("loss", 1, 9.0)])
    assert read(metrics.series, running.job_id) == {"loss": [(1, 1.0)]}


def test_a_reader_gets_only_what_is_new(running: Claim, write: Call, read: Call) -> None:
    write(metrics.append, running, [Point("loss", 1, 1.0), Point("lr", 1, 0.1)])
    first = read(metrics.newer, running.job_id, after=0)
    assert first.series == {"loss": [(1, 1.0)], "lr": [(1, 0.1)]}
    assert read(metrics.newer, running.job_id, after=first.version) == ({}, first.version, 0)
    write(metrics.append, running, [Point("loss", 2, 0.5), Point("loss", 1, 1.5), Point("lr", 2, 0.2)])
    second = read(metrics.newer, running.job_id, after=first.version, names=["loss"])
    assert (second.series, second.generation) == ({"loss": [(1, 1.5), (2, 0.5)]}, 0)
    assert read(metrics.cursor, running.job_id) == (second.version, second.generation)


def test_a_cut_tells_the_reader_to_draw_anew(running: Claim, claim: Call, write: Call, read: Call) -> None:
    write(metrics.append, running, [Point("loss", step, 1.0) for step in range(5)])
    before = read(metrics.cursor, running.job_id)
    write(jobs.settle, running, Settlement("requeue"))
    again = claim()
    write(jobs.resumed, again, 2)
    after = read(metrics.newer, running.job_id, after=before.version)
    assert (after.series, after.version, after.generation) == ({}, before.version, before.generation + 1)


def test_an_unknown_job_has_no_curves(read: Call) -> None:
    with pytest.raises(NotFound):
        read(metrics.newer, 5, after=0)
    assert read(metrics.series, 5) == {}


def _fill(store: Store, claim: Claim, values: dict[int, float | None]) -> None:
    with store.write() as session:
        metrics.append(session, claim, [Point("loss", step, value) for step, value in values.items()])


def test_a_long_curve_keeps_its_spikes_gaps_and_ends(store: Store, running: Claim, read: Call) -> None:
    values: dict[int, float | None] = {step: 1.0 + step / 1e5 for step in range(20_000)}
    values |= {4_321: 99.0, 12_345: -99.0, 7_777: None}
    _fill(store, running, values)
    curve = read(metrics.series, running.job_id, limit=200)["loss"]
    assert {(4_321, 99.0), (12_345, -99.0), (7_777, None)} <= set(curve)
    assert (curve[0][0], curve[-1][0]) == (0, 19_999)
    assert len(curve) <= 204
    assert all(values[step] == value for step, value in curve)


def test_a_flat_curve_is_thinned_too(store: Store, running: Claim, read: Call) -> None:
    _fill(store, running, dict.fromkeys(range(5_000), 0.5))
    assert len(read(metrics.series, running.job_id, limit=100)["loss"]) <= 52


@tuned(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.dictionaries(st.integers(0, 10_000), st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=120),
    limit=st.integers(2, 60),
)
def test_a_thinned_curve_is_a_part_of_the_curve_with_the_same_extremes(
    values: dict[int, float | None], limit: int, store: Store, submit: Call, claim: Call, read: Call, write: Call
) -> None:
    submit()
    held = claim()
    _fill(store, held, values)
    curve = read(metrics.series, held.job_id, limit=limit)["loss"]
    write(jobs.settle, held, Settlement("requeue", held=True))
    steps = [step for step, _ in curve]
    assert steps == sorted(set(steps))
    assert all(values[step] == value for step, value in curve)
    assert {steps[0], steps[-1]} == {min(values), max(values)}
    finite = [value for value in values.values() if value is not None]
    kept = [value for _, value in curve if value is not None]
    assert (min(kept, default=0), max(kept, default=0)) == (min(finite, default=0), max(finite, default=0))
    assert (None in values.values()) == (None in dict(curve).values())


@pytest.mark.alone
def test_six_long_curves_are_read_fast_enough_to_poll(store: Store, running: Claim, read: Call) -> None:
    names = ["loss", "eval_loss", "lr", "grad_norm", "tokens", "margin"]
    with store.write() as session:
        points = [Point(name, step, float(step % 97)) for name in names for step in range(5_000)]
        metrics.append(session, running, points)
    begin = time.perf_counter()
    found = read(metrics.series, running.job_id)
    assert time.perf_counter() - begin < 2.0
    assert all(len(curve) <= 2_004 for curve in found.values())
