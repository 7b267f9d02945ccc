"""Many processes and threads on one store: each job is claimed once, each race has one winner."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from storage import jobs
from storage.database import Store
from storage.errors import Fenced, StoreError
from storage.jobs import Claim, Holder, Settlement
from storage.states import State

Call = Callable[..., Any]
ROOT = Path(__file__).parents[2]
WORKERS, JOBS = 8, 300
CLAIM_ALL = """
import json, sys
from storage import jobs
from storage.database import open_store
from storage.jobs import Holder, Settlement
from storage.states import State

store, me, claimed = open_store(sys.argv[1]), sys.argv[2], []
sys.stdin.readline()
while True:
    with store.write() as session:
        taken = jobs.claim(session, Holder(me, "host", "boot"), lanes=["gpu"], lease_s=60)
    if taken is None:
        break
    claimed.append((taken[0].job_id, taken[0].token))
    with store.write() as session:
        jobs.settle(session, taken[0], Settlement(State.SUCCEEDED, result={"by": me}))
print(json.dumps(claimed))
"""


def _worker(url: str, name: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", CLAIM_ALL, url, name], cwd=ROOT, text=True, **pipes)


def test_eight_workers_claim_three_hundred_jobs_once_each(store: Store, store_url: str) -> None:
    with store.write() as session:
        for number in range(JOBS):
            jobs.submit(session, kind="train", name=f"run {number}", spec={}, lane="gpu")
    workers = [_worker(store_url, f"worker-{number}") for number in range(WORKERS)]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    claimed: list[tuple[int, int]] = []
    for worker in workers:
        output, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
        claimed += [(job_id, token) for job_id, token in json.loads(output)]
    assert sorted(claimed) == [(number, 1) for number in range(1, JOBS + 1)]
    with store.read() as session:
        assert jobs.counts(session)[State.SUCCEEDED] == JOBS
        assert [len(jobs.attempts(session, job_id)) for job_id, _ in claimed] == [1] * JOBS


def _race(*functions: Callable[[], Any]) -> list[Any]:
    """Runs the functions at the same instant; what they returned, or the error of the store that they raised."""
    barrier = threading.Barrier(len(functions))
    results: list[Any] = [None] * len(functions)

    def run(number: int) -> None:
        barrier.wait()
        try:
            results[number] = functions[number]()
        except StoreError as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_cancel_that_races_the_end_leaves_one_final_state(submit: Call, claim: Call, write: Call, read: Call) -> None:
    for _ in range(60):
        held: Claim = (submit(), claim())[1]
        _race(
            lambda held=held: write(jobs.settle, held, Settlement("requeue", counts=False)),
            lambda held=held: write(jobs.cancel, held.job_id),
        )
        job = read(jobs.get, held.job_id)
        states = [event.data.get("state") for event in read(jobs.events, held.job_id)]
        assert (job.state, states.count(State.CANCELLED), states[-1]) == (State.CANCELLED, 1, State.CANCELLED)


def test_a_rescue_that_races_the_end_has_one_winner(submit: Call, claim: Call, write: Call, read: Call) -> None:
    for _ in range(40):
        held: Claim = (submit(), claim())[1]
        results = _race(
            lambda held=held: write(jobs.settle, held, Settlement(State.SUCCEEDED)),
            lambda held=held: write(jobs.rescue, held.job_id, held.token, requeue=False),
        )
        assert [isinstance(result, Fenced) for result in results].count(True) == 1
        assert [event.kind for event in read(jobs.events, held.job_id)].count("settled") == 1


def test_simultaneous_clicks_make_one_job(submit: Call, read: Call) -> None:
    made = _race(*[lambda: submit(idempotency_key="click") for _ in range(12)])
    assert {job.id for job in made} == {1}
    assert len(read(jobs.listing)) == 1


def test_simultaneous_claims_of_one_job_have_one_winner(submit: Call, write: Call) -> None:
    submit()
    claims = [
        lambda name=f"w{number}": write(jobs.claim, Holder(name, "h", "b"), lanes=["gpu"], lease_s=60)
        for number in range(8)
    ]
    assert [taken is not None for taken in _race(*claims)].count(True) == 1
