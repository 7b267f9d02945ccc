"""A random walk of people, workers and ghosts over a few jobs: the rules hold after every step, on both stores."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from storage import checkpoints, jobs, metrics
from storage.checkpoints import NewCheckpoint
from storage.database import open_store
from storage.errors import Conflict, Fenced, NotFound
from storage.job_values import job as job_table
from storage.jobs import Claim, Holder, Settlement, SubmitOptions
from storage.states import FINAL, TRANSITIONS, State

WISHES = [jobs.cancel, jobs.pause, jobs.resume, jobs.stop_and_keep, jobs.hold, jobs.unhold, jobs.retry]
ENDS = [
    Settlement(State.SUCCEEDED),
    Settlement(State.FAILED, reason="crashed"),
    Settlement(State.CANCELLED),
    Settlement("requeue", reason="killed"),
    Settlement("requeue", reason="delayed", run_after_s=1000.0),
    Settlement("requeue", reason="paused", counts=False),
    Settlement("requeue", held=True, counts=False),
]
NUMBER = st.integers(0, 40)
WORKER = Holder("w", "h", "b")


class Walk(RuleBasedStateMachine):
    """Keeps what it was promised, and compares the store with it."""

    make: Callable[[], AbstractContextManager[str]]
    steps = 0

    def __init__(self) -> None:
        super().__init__()
        self.place = type(self).make()
        self.store = open_store(self.place.__enter__())
        self.jobs: list[int] = []
        self.keys: dict[str, int] = {}
        self.claims: list[Claim] = []
        self.holders: dict[int, Claim] = {}
        self.ended: dict[Claim, Settlement] = {}
        self.curves: dict[int, dict[int, float]] = {}

    def teardown(self) -> None:
        self.store.dispose()
        self.place.__exit__(None, None, None)

    def write(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self.store.write() as session:
            return function(session, *arguments, **options)

    def read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self.store.read() as session:
            return function(session, *arguments)

    def a_job(self, number: int) -> int:
        return self.jobs[number % len(self.jobs)]

    def a_claim(self, number: int) -> tuple[Claim, bool]:
        """Any claim ever made, and whether it still holds."""
        claim = self.claims[number % len(self.claims)]
        return claim, self.holders.get(claim.job_id) == claim

    def attempt(self, claim: Claim, holds: bool, function: Callable[..., Any], *arguments: Any) -> Any:
        if holds:
            return self.write(function, claim, *arguments)
        with pytest.raises(Fenced):
            self.write(function, claim, *arguments)
        return None

    @rule(priority=st.integers(0, 2), held=st.booleans(), budget=st.integers(1, 3))
    @precondition(lambda self: len(self.jobs) < 5)
    def submit(self, priority: int, held: bool, budget: int) -> None:
        key = f"key {len(self.keys)}"
        options = SubmitOptions(priority=priority, held=held, max_attempts=budget, idempotency_key=key)
        job = self.write(jobs.submit, kind="train", name="run", spec={}, lane="gpu", options=options)
        assert job.id > max(self.keys.values(), default=0)
        self.jobs.append(job.id)
        self.keys[key] = job.id
        self.curves[job.id] = {}

    @rule(number=NUMBER)
    @precondition(lambda self: self.jobs)
    def submit_again(self, number: int) -> None:
        job_id = self.a_job(number)
        key = next(key for key, known in self.keys.items() if known == job_id)
        options = SubmitOptions(idempotency_key=key)
        again = self.write(jobs.submit, kind="train", name="other", spec={}, lane="gpu", options=options)
        assert again == self.read(jobs.get, job_id)

    @rule(only=st.none() | st.sets(st.integers(0, 4)))
    def claim(self, only: set[int] | None) -> None:
        chosen = None if only is None else [self.jobs[number] for number in only if number < len(self.jobs)]
        open_ = [job for job in self.read(jobs.listing) if job.state == State.QUEUED and not job.held]
        due = [job for job in open_ if not job.run_after and (chosen is None or job.id in chosen)]
        order = lambda job: (-job.priority, job.id if job.rank is None else job.rank, job.id)  # noqa: E731
        best = min(due, key=order, default=None)
        taken = self.write(jobs.claim, WORKER, lanes=["gpu"], lease_s=60, only=chosen)
        assert (taken and taken[0].job_id) == (best and best.id)
        if taken is not None:
            assert taken[0].token == 1 + max((c.token for c in self.claims if c.job_id == taken[1].id), default=0)
            self.claims.append(taken[0])
            self.holders[taken[1].id] = taken[0]

    @rule(number=NUMBER)
    @precondition(lambda self: self.jobs)
    def time_goes_by(self, number: int) -> None:
        def pass_(session: Session) -> None:
            here = (job_table.c.id == self.a_job(number), job_table.c.run_after.is_not(None))
            session.execute(update(job_table).where(*here).values(run_after=0.0))

        self.write(pass_)

    @rule(wish=st.sampled_from(WISHES), number=NUMBER)
    @precondition(lambda self: self.jobs)
    def ask(self, wish: Callable[..., Any], number: int) -> None:
        before = self.read(jobs.get, self.a_job(number))
        try:
            self.write(wish, before.id)
        except Conflict:
            assert self.read(jobs.get, before.id) == before

    @rule(number=NUMBER, priority=st.integers(0, 2))
    @precondition(lambda self: self.jobs)
    def set_priority(self, number: int, priority: int) -> None:
        before = self.read(jobs.get, self.a_job(number))
        if before.state == State.QUEUED:
            assert self.write(jobs.set_priority, before.id, priority).priority == priority
            return
        with pytest.raises(Conflict):
            self.write(jobs.set_priority, before.id, priority)

    @rule(number=NUMBER, other=st.none() | NUMBER)
    @precondition(lambda self: self.jobs)
    def place_before(self, number: int, other: int | None) -> None:
        moved, target = self.a_job(number), None if other is None else self.a_job(other)
        order = [job.id for job in self.read(jobs.queue)]
        if moved not in order or (target is not None and target not in order):
            with pytest.raises(Conflict):
                self.write(jobs.place_before, moved, target)
            return
        self.write(jobs.place_before, moved, target)
        if moved != target:
            order.remove(moved)
            order.insert(len(order) if target is None else order.index(target), moved)
        assert [job.id for job in self.read(jobs.queue)] == order

    @rule(number=NUMBER)
    @precondition(lambda self: self.jobs)
    def delete(self, number: int) -> None:
        before = self.read(jobs.get, self.a_job(number))
        if before.state not in FINAL:
            with pytest.raises(Conflict):
                self.write(jobs.delete, before.id)
            return
        self.write(jobs.delete, before.id)
        self.jobs.remove(before.id)
        self.ended = {claim: end for claim, end in self.ended.items() if claim.job_id != before.id}
        with pytest.raises(NotFound):
            self.read(jobs.get, before.id)

    @rule(number=NUMBER, end=st.sampled_from(ENDS))
    @precondition(lambda self: self.claims)
    def settle(self, number: int, end: Settlement) -> None:
        claim, holds = self.a_claim(number)
        if not holds and claim in self.ended and self.outcome(self.ended[claim]) == self.outcome(end):
            before = self.read(jobs.get, claim.job_id)
            assert self.write(jobs.settle, claim, end) == before, "to settle again in the same way changes nothing"
            return
        if self.attempt(claim, holds, jobs.settle, end):
            del self.holders[claim.job_id]
            self.ended[claim] = end

    def outcome(self, end: Settlement) -> str:
        return (end.reason or "requeued") if end.state == "requeue" else str(end.state)

    @rule(number=NUMBER)
    @precondition(lambda self: self.claims)
    def rescue(self, number: int) -> None:
        claim, holds = self.a_claim(number)
        call = lambda session, claim: jobs.rescue(  # noqa: E731 - one call in the shape of the others
            session, claim.job_id, claim.token, requeue=True
        )
        if self.attempt(claim, holds, call):
            del self.holders[claim.job_id]

    @rule(number=NUMBER, step=st.integers(0, 6), value=st.floats(0, 9))
    @precondition(lambda self: self.claims)
    def report(self, number: int, step: int, value: float) -> None:
        claim, holds = self.a_claim(number)
        self.attempt(claim, holds, metrics.append, [metrics.Point("loss", step, value)])
        if holds:
            self.curves[claim.job_id][step] = value

    @rule(number=NUMBER, step=st.integers(0, 6))
    @precondition(lambda self: self.claims)
    def resume(self, number: int, step: int) -> None:
        claim, holds = self.a_claim(number)
        self.attempt(claim, holds, jobs.resumed, step)
        if holds:
            curve = self.curves[claim.job_id]
            self.curves[claim.job_id] = {at: value for at, value in curve.items() if at <= step}

    @rule(number=NUMBER, step=st.integers(0, 6))
    @precondition(lambda self: self.claims)
    def save(self, number: int, step: int) -> None:
        claim, holds = self.a_claim(number)
        new = NewCheckpoint(step, f"/c/{step}", "ab", 1, "/m", "none", "float32", is_adapter=True)
        self.attempt(claim, holds, checkpoints.add, new)
        if holds:
            assert self.read(jobs.get, claim.job_id).deaths == 0

    @invariant()
    def each_job_follows_the_rules(self) -> None:
        type(self).steps += 1
        with self.store.read() as session:
            for number in self.jobs:
                self.follows_the_rules(session, jobs.get(session, number))
            waiting = [job.id for job in jobs.queue(session) if not job.held]
            assert [jobs.queue_position(session, number) for number in waiting] == list(range(1, len(waiting) + 1))
            if self.store.file is not None:
                assert session.execute(text("PRAGMA foreign_key_check")).all() == []

    def follows_the_rules(self, session: Session, job: jobs.Job) -> None:
        assert (job.state == State.RUNNING) == (job.id in self.holders)
        assert job.attempt - job.granted <= job.max_attempts
        assert (job.finished_at is not None) == (job.state in FINAL)
        attempts = jobs.attempts(session, job.id)
        assert [attempt.token for attempt in attempts] == list(range(1, job.token + 1))
        assert [attempt.ended_at is None for attempt in attempts].count(True) == (job.state == State.RUNNING)
        events = jobs.events(session, job.id)
        states = [State(event.data["state"]) for event in events if "state" in event.data]
        assert all(before == after or after in TRANSITIONS[before] for before, after in pairwise(states))
        assert (states[0], states[-1]) == (State.QUEUED, job.state)
        assert dict(metrics.series(session, job.id).get("loss", [])) == self.curves[job.id]


@contextmanager
def copied(template: Path) -> Iterator[str]:
    folder = tempfile.mkdtemp()
    shutil.copy(template, Path(folder) / "store.db")
    yield f"sqlite:///{folder}/store.db"
    shutil.rmtree(folder)


@pytest.fixture(params=["sqlite", "postgresql"])
def walk(request: pytest.FixtureRequest, empty_database: Path) -> type[Walk]:
    if request.param == "sqlite":
        made: Callable[[], Any] = lambda: copied(empty_database)  # noqa: E731
    else:
        made = request.getfixturevalue("postgres").database
    return type("Walk", (Walk,), {"make": staticmethod(made), "steps": 0})


SLOW = [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large]


def test_a_random_walk_breaks_no_rule(walk: type[Walk]) -> None:
    how = settings(max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=SLOW)
    run_state_machine_as_test(walk, settings=how)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_steps_break_no_rule(walk: type[Walk]) -> None:
    how = settings(max_examples=250, stateful_step_count=60, deadline=None, suppress_health_check=SLOW, database=None)
    while walk.steps < 10_000:
        run_state_machine_as_test(walk, settings=how)
