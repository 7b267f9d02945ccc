"""Rows 34 and 35: a child that prints without end, and a run with a million points."""

from __future__ import annotations

import resource
import time

import psutil
import pytest
from sqlalchemy import text

from engine.runtime import logs
from engine.specs import printed
from storage import jobs, metrics
from storage.jobs import Holder, Settlement
from storage.states import State
from tests.faults.house import House
from tests.faults.test_processes import undisturbed

POINTS, SERIES = 1_000_000, 200
POLL_S = 0.2


@pytest.mark.parametrize("flood", ["text", "bytes"])
def test_34_a_flood_of_output_stops_no_step_and_fills_no_disk(house: House, flood: str) -> None:
    job_id = house.submit(steps=60, fault=flood, fault_at=10, flood_bytes=120_000_000)
    worker = house.start()
    house.finish(job_id)
    undisturbed(house, job_id, 60)
    path = house.home.log(job_id)
    files = [path, printed.before(path)]
    assert 2 * 2**20 < sum(one.stat().st_size for one in files) <= logs.CAP_BYTES
    said = logs.tail(path)
    assert said.splitlines()[-1] == "after the flood", "the end is kept, not the beginning"
    assert said.encode("utf-8"), "whatever it was, it can be shown"
    if flood == "text":
        assert not any(b"hf_abcdefgh12345678" in one.read_bytes() for one in files)
    assert psutil.Process(worker.pid).memory_info().rss < 400 * 2**20


def test_35_a_poll_of_a_million_points_is_quick_and_takes_no_memory(each_house: House) -> None:
    house = each_house
    job_id = house.submit(steps=1)
    with house.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=600)
        assert taken is not None
        metrics.append(session, taken[0], [metrics.Point("loss", 0, 1.0)])
    _fill(house, job_id)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    names = [f"series {number}" for number in range(8)]
    with house.store.read() as session:
        began = time.monotonic()
        first = metrics.series(session, job_id, names=names, limit=2000)
        drawn_s = time.monotonic() - began
        here = metrics.cursor(session, job_id)
    assert all(0 < len(curve) <= 2100 for curve in first.values())
    polls = []
    for step in range(5):
        with house.store.write() as session:
            metrics.append(session, taken[0], [metrics.Point(name, POINTS + step, 1.0) for name in names])
        began = time.monotonic()
        with house.store.read() as session:
            newer = metrics.newer(session, job_id, after=here.version, names=names)
        polls.append(time.monotonic() - began)
        here = newer
        assert [len(curve) for curve in newer.series.values()] == [1] * len(names)
    assert sorted(polls)[2] < POLL_S, polls
    assert drawn_s < 10 * POLL_S, "once, when the page opens"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024, "kilobytes"
    with house.store.write() as session:
        jobs.settle(session, taken[0], Settlement(State.SUCCEEDED))


def _fill(house: House, job_id: int) -> None:
    rows = text(
        "WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < :points) "
        "INSERT INTO metric (job_id, name, step, token, value, at, version) "
        "SELECT :job_id, 'series ' || (i % :series), i / :series, 1, (i % 1000 * 7919 % 1000) / 1000.0, i, 1 FROM n"
    )
    with house.store.write() as session:
        session.execute(rows, {"points": POINTS, "job_id": job_id, "series": SERIES})
