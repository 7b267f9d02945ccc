"""Requests to the preview child, and the rows by which workers are seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update

from storage import requests, workers
from storage.database import Store
from storage.errors import Fenced, NotFound
from storage.requests import request
from storage.workers import NewWorker, worker

Call = Callable[..., Any]


def test_requests_are_taken_oldest_first_and_once(write: Call, read: Call) -> None:
    ids = [write(requests.ask, "tokens", {"row": number}) for number in range(2)]
    assert read(requests.waiting) == 2
    taken = [write(requests.take) for _ in range(3)]
    assert [one and one.id for one in taken] == [*ids, None]
    assert (taken[0].kind, taken[0].payload, taken[0].state) == ("tokens", {"row": 0}, "taken")
    assert read(requests.waiting) == 0


def test_the_last_requests_of_a_kind_are_found_newest_first_in_whatever_state(write: Call, read: Call) -> None:
    ids = [write(requests.ask, kind, {"n": n}) for n, kind in enumerate(("lengths", "tokens", "lengths", "lengths"))]
    write(requests.take)
    assert [one.id for one in read(requests.recent, "lengths", failed_within_s=9)] == [ids[3], ids[2], ids[0]]
    assert [one.id for one in read(requests.recent, "lengths", failed_within_s=9, limit=1)] == [ids[3]]


def test_of_the_last_requests_those_that_failed_long_ago_are_left_out(write: Call, read: Call) -> None:
    number = write(requests.ask, "lengths", {})
    write(requests.take)
    write(requests.fail, number, [])
    assert [one.id for one in read(requests.recent, "lengths", failed_within_s=60)] == [number]
    assert read(requests.recent, "lengths", failed_within_s=-1) == []


def test_an_answer_reaches_the_one_who_asked(write: Call, read: Call) -> None:
    number = write(requests.ask, "tokens", {})
    assert read(requests.get, number).state == "asked"
    write(requests.take)
    write(requests.answer, number, {"tokens": [1, 2]})
    answered = read(requests.get, number)
    assert (answered.state, answered.answer, answered.problems) == ("answered", {"tokens": [1, 2]}, [])
    assert answered.created_at <= answered.taken_at <= answered.answered_at


def test_a_failure_carries_its_problems(write: Call, read: Call) -> None:
    number = write(requests.ask, "inspect", {})
    write(requests.take)
    write(requests.fail, number, [{"code": "empty"}])
    failed = read(requests.get, number)
    assert (failed.state, failed.answer, failed.problems) == ("failed", None, [{"code": "empty"}])


def test_only_a_taken_request_can_be_answered_and_only_once(write: Call) -> None:
    number = write(requests.ask, "tokens", {})
    with pytest.raises(Fenced):
        write(requests.answer, number, {})
    write(requests.take)
    write(requests.answer, number, {})
    with pytest.raises(Fenced):
        write(requests.fail, number, [])


def test_what_a_dead_child_took_is_failed_and_the_rest_waits(write: Call, read: Call) -> None:
    first, second = (write(requests.ask, "tokens", {}) for _ in range(2))
    write(requests.take)
    write(requests.fail_taken, [{"code": "child_died"}])
    assert read(requests.get, first).problems == [{"code": "child_died"}]
    assert read(requests.get, second).state == "asked"


def test_kinds_can_be_left_for_later(write: Call, read: Call) -> None:
    slow, quick = write(requests.ask, "plan", {}), write(requests.ask, "tokens", {})
    assert read(requests.waiting, without=("plan",)) == 1
    assert write(requests.take, without=("plan",)).id == quick
    assert write(requests.take, without=("plan",)) is None
    assert write(requests.take).id == slow


def test_a_request_that_nobody_renewed_is_given_up(store: Store, write: Call, read: Call) -> None:
    stuck, moving, waiting = (write(requests.ask, "tokens", {}) for _ in range(3))
    for _ in range(2):
        write(requests.take)
    with store.write() as session:
        session.execute(update(request).values(taken_at=request.c.taken_at - 300))
    write(requests.renew, moving)
    assert write(requests.fail_overdue, [{"code": "stood_still"}], older_than_s=120) == [stuck]
    assert read(requests.get, stuck).problems == [{"code": "stood_still"}]
    assert [read(requests.get, one).state for one in (moving, waiting)] == ["taken", "asked"]
    with pytest.raises(Fenced):
        write(requests.renew, stuck)


def test_old_requests_are_forgotten(store: Store, write: Call, read: Call) -> None:
    old, new = (write(requests.ask, "tokens", {}) for _ in range(2))
    with store.write() as session:
        session.execute(update(request).where(request.c.id == old).values(created_at=1.0))
    write(requests.sweep, older_than_s=3600)
    assert read(requests.get, new).id == new
    with pytest.raises(NotFound):
        read(requests.get, old)
    write(requests.take)
    write(requests.sweep, older_than_s=-1)
    assert read(requests.get, new).state == "taken"


def test_a_worker_is_live_while_it_is_seen(store: Store, write: Call, read: Call) -> None:
    first = write(workers.add, NewWorker("h", 1, 2.5, "boot", devices=[{"kind": "cpu"}]))
    second = write(workers.add, NewWorker("h", 2, None, "boot", lanes=["cpu"]))
    assert read(workers.live, within_s=30) == [first, second]
    assert (first.devices, first.lanes, second.lanes) == ([{"kind": "cpu"}], ["gpu", "cpu"], ["cpu"])
    with store.write() as session:
        session.execute(update(worker).values(seen_at=worker.c.seen_at - 100))
    assert read(workers.live, within_s=30) == []
    write(workers.seen, first.id)
    assert [one.id for one in read(workers.live, within_s=30)] == [first.id]
    write(workers.sweep, older_than_s=50)
    write(workers.gone, first.id)
    for forgotten in (first, second):
        with pytest.raises(Fenced):
            write(workers.seen, forgotten.id)
