"""What must hold after every fault, I1 to I9. Each function returns what is wrong, in words; nothing means that it holds.

Two logs lie beside the home, written by the harness: `steps.log` has one line for each step that any trainer began, in
the order of time; `acknowledged.log` has one line for each submit that the store has acknowledged.
"""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from pathlib import Path

import psutil
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from engine.runtime import checkpoints as files
from engine.runtime.checkpoints import BrokenCheckpoint
from engine.specs.home import Home
from storage import checkpoints, jobs
from storage.database import Store
from storage.job_values import attempt, event_table, job
from storage.jobs import Job
from storage.metrics import metric
from storage.states import FINAL, TRANSITIONS, State
from storage.tables import Base

SWEPT_AFTER_S = 86400.0
"""Uploads that nobody imported are kept that long; what a killed process left half-made goes at the next start."""


def check_invariants(store: Store, home: Home, *, without: Collection[str] = ()) -> None:
    """Fail with everything that does not hold. `without` are those that the case has broken on purpose."""
    names = [name for name in INVARIANTS if name not in without]
    wrong = [f"{name}: {one}" for name in names for one in findings(name, store, home)]
    assert not wrong, "\n".join(wrong)


def findings(name: str, store: Store, home: Home) -> list[str]:
    """What one of them finds wrong; a store that cannot be read breaks them all."""
    try:
        return INVARIANTS[name](store, home)
    except DBAPIError as error:
        return [f"the store cannot be read: {error.orig}"]


def i1_no_illegal_row(store: Store, home: Home) -> list[str]:
    """No job's columns contradict each other, or its attempts."""
    del home
    return [f"job {one.id}: {rule}" for one in _all(store) for rule, holds in _rules(store, one) if not holds]


def _rules(store: Store, one: Job) -> list[tuple[str, bool]]:
    with store.read() as session:
        attempts = jobs.attempts(session, one.id)
    runs, final = one.state == State.RUNNING, one.state in FINAL
    held = (one.owner, one.owner_host, one.owner_boot, one.lease_until)
    return [
        ("running has an owner and a lease", runs == all(value is not None for value in held)),
        ("not running has neither", runs or all(value is None for value in (*held, one.pid))),
        ("final has an end", final == (one.finished_at is not None)),
        ("final waits for nothing", not final or (not one.held and one.run_after is None)),
        ("no wish outlives its attempt", runs or (one.cancel_requested_at is None and one.pause_requested_at is None)),
        ("the budget holds", one.attempt <= one.max_attempts + one.granted),
        ("the token counts the claims", one.token >= one.attempt),
        ("each claim has its attempt", [a.token for a in attempts] == list(range(1, one.token + 1))),
        ("an attempt is open while it runs", [a.token for a in attempts if a.ended_at is None] == [one.token] * runs),
    ]


def i2_one_trainer_a_job_and_a_device(store: Store, home: Home) -> list[str]:
    """On one host, no two attempts of a job, and no two heavy jobs, ever trained at the same time."""
    del store
    return [*_overlaps(home), *_living_twice(home)]


def _overlaps(home: Home) -> list[str]:
    """Attempts between whose first and last step another one of the same host and lock has a step."""
    path = home.root.parent / "steps.log"
    spans: dict[tuple[str, str], dict[tuple[str, str], list[int]]] = defaultdict(dict)
    for place, line in enumerate(path.read_text().splitlines() if path.exists() else []):
        host, lane, job_id, token, *_ = line.split()
        for lock in (f"job {job_id}", *(["gpu"] if lane == "gpu" else [])):
            spans[host, lock].setdefault((job_id, token), [place, place])[1] = place
    wrong = []
    for (host, lock), attempts in spans.items():
        ordered = sorted(attempts.items(), key=lambda item: item[1])
        for (before, (_, end)), (after, (begin, _)) in zip(ordered, ordered[1:], strict=False):
            if begin < end:
                wrong.append(f"{host}, {lock}: {'/'.join(before)} and {'/'.join(after)} trained at the same time")
    return wrong


def _living_twice(home: Home) -> list[str]:
    living: dict[str, list[int]] = defaultdict(list)
    for one in psutil.process_iter():
        try:
            mine = one.environ().get("ATELIER_HOME") == str(home.root) and one.status() != psutil.STATUS_ZOMBIE
            words = one.cmdline() if mine else []
        except (psutil.Error, OSError):
            continue
        if any(word in TRAINERS for word in words[:-2]):
            living[words[-2]].append(one.pid)
    return [f"job {job_id} has the trainers {pids}" for job_id, pids in living.items() if len(pids) > 1]


TRAINERS = ("tests.faults.dryrun", "engine.runtime.trainer")


def i3_each_submit_once(store: Store, home: Home) -> list[str]:
    """What the store acknowledged is there, and the same key is there once."""
    path = home.root.parent / "acknowledged.log"
    told = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    ids = {one.id for one in _all(store)}
    with store.read() as session:
        keys = dict(session.execute(select(job.c.idempotency_key, func.count()).group_by(job.c.idempotency_key)).all())
    lost = [f"job {one['id']} was acknowledged and is gone" for one in told if one["id"] not in ids]
    wanted = {one["key"] for one in told if one["key"] is not None}
    return [*lost, *(f"key {key} is there {keys.get(key, 0)} times" for key in wanted if keys.get(key, 0) != 1)]


def i4_curves_go_forward(store: Store, home: Home) -> list[str]:
    """Along a curve, no point is of an older attempt than the one before, none is there twice, none of a ghost."""
    del home
    order = (metric.c.job_id, metric.c.name, metric.c.step)
    columns = (metric.c.job_id, metric.c.name, metric.c.step, metric.c.token)
    tokens = {one.id: one.token for one in _all(store)}
    wrong, before = [], (0, "", 0, 0)
    with store.read() as session:
        for row in session.execute(select(*columns).order_by(*order)):
            here = tuple(row)
            if here[:2] == before[:2] and here[2] == before[2]:
                wrong.append(f"job {here[0]} {here[1]}: step {here[2]} twice")
            if here[:2] == before[:2] and here[3] < before[3]:
                wrong.append(f"job {here[0]} {here[1]}: step {here[2]} is of token {here[3]} after {before[3]}")
            if here[3] > tokens.get(here[0], 0):
                wrong.append(f"job {here[0]} {here[1]}: step {here[2]} is of a token that was never given")
            before = here
    return wrong


def i5_checkpoints_verify(store: Store, home: Home) -> list[str]:
    """Every listed checkpoint is on the disk, byte for byte what its manifest says, and of the run that lists it."""
    del home
    wrong = []
    for one in _all(store):
        with store.read() as session:
            rows = checkpoints.listing(session, one.id)
        for row in rows:
            try:
                found = files.verify(Path(row.path))
            except BrokenCheckpoint as error:
                wrong.append(f"job {one.id}: {error}")
                continue
            if (found.step, found.sha256, found.num_bytes) != (row.step, row.manifest_sha, row.bytes):
                wrong.append(f"job {one.id}: checkpoint {row.step} is not the one that was listed")
    return wrong


def i6_nothing_is_stuck(store: Store, home: Home) -> list[str]:
    """Once the faults have ended and the time is up, every job has ended or is held by a person's wish."""
    del home
    left = [one for one in _all(store) if one.state not in FINAL and not (one.state == State.QUEUED and one.held)]
    return [f"job {one.id} is still {one.state}" for one in left]


def i7_events_replay(store: Store, home: Home) -> list[str]:
    """The history, played from its first line, ends where the job stands; every move is on the table of moves."""
    del home
    return [f"job {one.id}: {wrong}" for one in _all(store) for wrong in _replay(store, one)]


def _replay(store: Store, one: Job) -> list[str]:
    with store.read() as session:
        rows = session.execute(
            select(event_table.c.kind, event_table.c.token, event_table.c.data)
            .where(event_table.c.job_id == one.id)
            .order_by(event_table.c.id)
        ).all()
    wrong: list[str] = []
    state, held, token, open_ = None, False, 0, False
    for kind, its_token, data in rows:
        after = State(data["state"]) if "state" in data else state
        if state is None and kind != "submitted":
            wrong.append(f"begins with {kind}")
        if state is not None and after != state and after not in TRANSITIONS[state]:
            wrong.append(f"{kind} moves it from {state} to {after}")
        if kind == "claimed" and (its_token != token + 1 or open_):
            wrong.append(f"claim {its_token} after {token}, {'open' if open_ else 'ended'}")
        if kind == "settled" and (its_token != token or not open_):
            wrong.append(f"settles {its_token} while {token} is {'open' if open_ else 'ended'}")
        if its_token < token:
            wrong.append(f"{kind} of {its_token} after {token}")
        open_ = kind == "claimed" or (open_ and kind != "settled")
        state, token, held = after, max(token, its_token), data.get("held", held)
    if (state, token, held) != (one.state, one.token, one.held):
        wrong.append(f"replays to {state}/{token}/held={held}, stands at {one.state}/{one.token}/held={one.held}")
    return wrong


def i8_the_database_is_whole(store: Store, home: Home) -> list[str]:
    """SQLite finds no damage; on either store no row points to one that is not there."""
    del home
    wrong = []
    with store.read() as session:
        if store.url.get_backend_name() == "sqlite":
            found = session.execute(text("PRAGMA integrity_check")).scalars().all()
            wrong += [str(one) for one in found if one != "ok"]
        for table in Base.metadata.sorted_tables:
            for key in table.foreign_keys:
                other = key.column.table.alias()
                there = select(other.c[key.column.name]).where(other.c[key.column.name] == key.parent)
                lost = select(func.count()).select_from(table).where(key.parent.is_not(None), ~there.exists())
                if number := session.execute(lost).scalar():
                    wrong.append(f"{number} rows of {table.name} point to no {other.name}")
        if session.execute(select(func.count()).select_from(attempt)).scalar() is None:
            wrong.append("the attempts cannot be counted")
    return wrong


def i9_nothing_is_left_lying(store: Store, home: Home) -> list[str]:
    """Nothing half-made is older than the sweep that removes it: at the next start, and uploads after a day."""
    del store
    halves = [
        *home.runs.glob("*/*/.tmp-*"),
        *home.runs.glob("*/*/.library"),
        *home.runs.glob("*/*/.*.json.*"),
        *home.exports.glob(".tmp-*"),
        *home.models.glob(".tmp-*"),
        *home.root.glob(".*.json.*"),
    ]
    late = [*home.staging.iterdir(), *home.datasets.glob(".incoming-*"), *(home.datasets / "tokens").glob(".making-*")]
    halves += [path for path in late if time.time() - path.stat().st_mtime > SWEPT_AFTER_S]
    return [f"{path.relative_to(home.root)} was left lying" for path in halves]


INVARIANTS: dict[str, Callable[[Store, Home], list[str]]] = {
    "I1": i1_no_illegal_row,
    "I2": i2_one_trainer_a_job_and_a_device,
    "I3": i3_each_submit_once,
    "I4": i4_curves_go_forward,
    "I5": i5_checkpoints_verify,
    "I6": i6_nothing_is_stuck,
    "I7": i7_events_replay,
    "I8": i8_the_database_is_whole,
    "I9": i9_nothing_is_left_lying,
}


def _all(store: Store) -> list[Job]:
    with store.read() as session:
        return jobs.listing(session, limit=1_000_000)
