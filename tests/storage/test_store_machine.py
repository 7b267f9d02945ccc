"""A random walk of people, workers and ghosts over a few jobs: the rules hold after every step."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from sqlalchemy import text

from storage import checkpoints, jobs, metrics
from storage.checkpoints import NewCheckpoint
from storage.database import open_store
from storage.errors import Conflict, Fenced
from storage.jobs import Claim, Holder, Settlement, SubmitOptions
from storage.states import FINAL, TRANSITIONS, State

WISHES = [jobs.cancel, jobs.pause, jobs.resume, jobs.stop_and_keep, jobs.hold, jobs.unhold, jobs.retry]
ENDS = [
    Settlement(State.SUCCEEDED),
    Settlement(State.FAILED, reason="crashed"),
    Settlement(State.CANCELLED),
    Settlement("requeue", reason="killed"),
    Settlement("requeue", reason="paused", counts=False),
    Settlement("requeue", held=True, counts=False),
]
NUMBER = st.integers(0, 40)


class Walk(RuleBasedStateMachine):
    """Keeps what it was promised, and compares the store with it."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.mkdtemp()
        shutil.copy(self.template, Path(self.folder) / "store.db")
        self.store = open_store(f"sqlite:///{self.folder}/store.db")
        self.jobs: list[int] = []
        self.claims: list[Claim] = []
        self.holders: dict[int, Claim] = {}
        self.curves: dict[int, dict[int, float]] = {}

    def teardown(self) -> None:
        self.store.dispose()
        shutil.rmtree(self.folder)

    def write(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        with self.store.write() as session:
            return function(session, *arguments, **options)

    def read(self, function: Callable[..., Any], *arguments: Any) -> Any:
        with self.store.read() as session:
            return function(session, *arguments)

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
        options = SubmitOptions(priority=priority, held=held, max_attempts=budget)
        job = self.write(jobs.submit, kind="train", name="run", spec={}, lane="gpu", options=options)
        self.jobs.append(job.id)
        self.curves[job.id] = {}

    @rule()
    def claim(self) -> None:
        waiting = [job for job in self.read(jobs.listing) if job.state == State.QUEUED and not job.held]
        best = min(waiting, key=lambda job: (-job.priority, job.id), default=None)
        taken = self.write(jobs.claim, Holder("w", "h", "b"), lanes=["gpu"], lease_s=60)
        assert (taken and taken[0].job_id) == (best and best.id)
        if taken is not None:
            assert taken[0].token == 1 + max((c.token for c in self.claims if c.job_id == taken[1].id), default=0)
            self.claims.append(taken[0])
            self.holders[taken[1].id] = taken[0]

    @rule(wish=st.sampled_from(WISHES), number=NUMBER)
    @precondition(lambda self: self.jobs)
    def ask(self, wish: Callable[..., Any], number: int) -> None:
        before = self.read(jobs.get, self.jobs[number % len(self.jobs)])
        try:
            self.write(wish, before.id)
        except Conflict:
            assert self.read(jobs.get, before.id) == before

    @rule(number=NUMBER, end=st.sampled_from(ENDS))
    @precondition(lambda self: self.claims)
    def settle(self, number: int, end: Settlement) -> None:
        claim, holds = self.a_claim(number)
        if self.attempt(claim, holds, jobs.settle, end):
            del self.holders[claim.job_id]

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
        for number in self.jobs:
            job = self.read(jobs.get, number)
            assert (job.state == State.RUNNING) == (number in self.holders)
            assert job.attempt - job.granted <= job.max_attempts
            assert (job.finished_at is not None) == (job.state in FINAL)
            attempts = self.read(jobs.attempts, number)
            assert [attempt.token for attempt in attempts] == list(range(1, job.token + 1))
            assert [attempt.ended_at is None for attempt in attempts].count(True) == (job.state == State.RUNNING)
            self.events_replay_to(job)
            curve = self.read(metrics.series, number).get("loss", [])
            assert dict(curve) == self.curves[number]

    def events_replay_to(self, job: jobs.Job) -> None:
        states = [State(event.data["state"]) for event in self.read(jobs.events, job.id) if "state" in event.data]
        for before, after in pairwise(states):
            assert before == after or after in TRANSITIONS[before]
        assert (states[0], states[-1]) == (State.QUEUED, job.state)

    @invariant()
    def the_database_is_whole(self) -> None:
        with self.store.read() as session:
            assert session.execute(text("PRAGMA foreign_key_check")).all() == []


def test_a_random_walk_breaks_no_rule(empty_database: Path) -> None:
    Walk.template = empty_database
    slow = [HealthCheck.too_slow, HealthCheck.filter_too_much]
    run_state_machine_as_test(
        Walk, settings=settings(max_examples=20, stateful_step_count=40, deadline=None, suppress_health_check=slow)
    )
