"""Many processes and threads on one store: each job is claimed once, each race has one winner."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy.exc import IntegrityError

from storage import checkpoints, datasets, drafts, jobs, messages, metrics, models, processes, requests, settings
from storage.database import Store
from storage.errors import Conflict, Fenced, NotFound, StoreError
from storage.jobs import Claim, Holder, Job, Settlement
from storage.models import Model, NewModel
from storage.states import State
from storage.targets import Target

WORKER = Holder("worker-a", "host-a", "boot-a")
Call = Callable[..., Any]
ROOT = Path(__file__).parents[2]
WORKERS, JOBS = 8, 150
CLAIM_ALL = """
import json, sys
from storage import jobs
from storage.database import open_store
from storage.jobs import Holder, Settlement
from storage.patience import patiently
from storage.states import State

def claim():
    with store.write() as session:
        return jobs.claim(session, Holder(me, "host", "boot"), lanes=["gpu"], lease_s=60)

def settle():
    with store.write() as session:
        jobs.settle(session, taken[0], Settlement(State.SUCCEEDED, result={"by": me}))

store, me, claimed = open_store(sys.argv[1]), sys.argv[2], []
sys.stdin.readline()
while True:
    taken = patiently(claim, patience_s=60)  # one of eight may stand in line for longer than the store waits
    if taken is None:
        break
    claimed.append((taken[0].job_id, taken[0].token))
    patiently(settle, patience_s=60)
print(json.dumps(claimed))
"""


def _worker(url: str, name: str) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", CLAIM_ALL, url, name], cwd=ROOT, text=True, **pipes)


def test_eight_workers_claim_every_job_once(store: Store, store_url: str) -> None:
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


def test_the_same_file_imported_by_many_at_once_is_one_version(write: Call, read: Call, new_version: Call) -> None:
    made = _race(*[lambda: write(datasets.add_version, new_version()) for _ in range(8)])
    assert {(one.id, one.version) for one in made} == {(1, 1)}
    assert len(read(datasets.versions, "tickets")) == 1


def test_different_files_imported_at_once_are_versions_without_a_gap(
    write: Call, read: Call, new_version: Call
) -> None:
    adding = [lambda sha=f"{number:02}": write(datasets.add_version, new_version(sha256=sha)) for number in range(8)]
    made = _race(*adding)
    assert sorted(one.version for one in made) == list(range(1, 9))
    assert [one.version for one in read(datasets.versions, "tickets")] == list(range(8, 0, -1))
    assert read(datasets.find, "tickets").latest_version == 8


def test_a_name_that_two_datasets_want_at_once_goes_to_one(write: Call, read: Call, new_version: Call) -> None:
    for number in range(6):
        write(datasets.add_version, new_version(f"set{number}", sha256=f"{number}"))
    results = _race(*[lambda old=f"set{n}": write(datasets.rename, old, "wanted") for n in range(6)])
    assert [isinstance(result, Conflict) for result in results].count(False) == 1
    assert len(read(datasets.listing)) == 6


def test_one_of_two_datasets_with_the_same_rows_that_go_at_once_gives_up_the_file(
    write: Call, read: Call, new_version: Call
) -> None:
    for number in range(20):
        sha = f"sha{number}"
        for name in ("one", "two"):
            write(datasets.add_version, new_version(name, sha256=sha))
        gone = _race(*[lambda name=name: write(datasets.delete, name) for name in ("one", "two")])
        assert sorted(len(versions) for versions in gone) == [0, 1]
    assert read(datasets.listing) == []


def test_a_model_that_is_added_by_many_at_once_is_one(write: Call, read: Call) -> None:
    new = NewModel("base", "/models/base", "folder", 10)
    made = _race(*[lambda: write(models.add, new) for _ in range(8)])
    assert {one.id for one in made} == {1} and len(read(models.listing)) == 1
    others = [NewModel("base", f"/elsewhere/{number}", "folder", 10) for number in range(4)]
    refused = _race(*[lambda new=new: write(models.add, new) for new in others])
    assert {one.code for one in refused} == {"model_name_taken"}


def test_a_request_is_taken_once(write: Call, read: Call) -> None:
    asked = {write(requests.ask, "tokens", {"row": number}) for number in range(20)}
    taken = _race(*[lambda: [write(requests.take, taken_by="h") for _ in range(5)] for _ in range(8)])
    found = [one.id for some in taken for one in some if one is not None]
    assert sorted(found) == sorted(asked)
    assert read(requests.waiting) == 0


def test_an_answer_is_claimed_once(write: Call, model: Model) -> None:
    target = Target("base:starter", model.path, "key", "none", "float32", None, None, None, model.id)
    chat, _ = write(messages.ask, conversation_id=None, text="a", targets=[target], params={})
    for _ in range(9):
        write(messages.ask, conversation_id=chat, text="a", targets=[target], params={})
    claims = _race(
        *[lambda n=n: [write(messages.claim, base_key="key", process_id=n) for _ in range(3)] for n in range(6)]
    )
    found = [one.id for some in claims for one in some if one is not None]
    assert len(found) == len(set(found)) == 10


def test_questions_put_at_once_get_a_turn_each(write: Call, read: Call, model: Model) -> None:
    target = Target("base:starter", model.path, "key", "none", "float32", None, None, None, model.id)
    chat, _ = write(messages.ask, conversation_id=None, text="first", targets=[target], params={})
    ask = lambda: write(messages.ask, conversation_id=chat, text="next", targets=[target], params={})  # noqa: E731
    _race(*[ask] * 8)
    asked = [one.turn for one in read(messages.transcript, chat) if one.role == "user"]
    assert asked == list(range(9))


def test_an_answer_is_asked_for_anew_once_at_a_time(write: Call, read: Call, model: Model) -> None:
    target = Target("base:starter", model.path, "key", "none", "float32", None, None, None, model.id)
    for _ in range(10):
        chat, (first,) = write(messages.ask, conversation_id=None, text="a", targets=[target], params={})
        results = _race(*[lambda first=first, n=n: write(messages.regenerate, first, n) for n in range(4)])
        assert [isinstance(one, Conflict) for one in results].count(True) == 3
        told = read(messages.transcript, chat)
        assert [(one.role, one.superseded) for one in told] == [("user", False), ("assistant", False)]


def test_a_stop_that_races_the_claim_reaches_the_answer(write: Call, read: Call, model: Model) -> None:
    target = Target("base:starter", model.path, "key", "none", "float32", None, None, None, model.id)
    for _ in range(30):
        _, (answer,) = write(messages.ask, conversation_id=None, text="a", targets=[target], params={})
        _race(
            lambda answer=answer: write(messages.stop, answer),
            lambda: write(messages.claim, base_key="key", process_id=1),
        )
        told = read(messages.get, answer)
        assert told.state == "stopped" or told.stop_requested


def test_drafts_and_settings_that_are_put_at_once_are_one_row(write: Call, read: Call) -> None:
    _race(*[lambda n=n: write(drafts.put, "train", {"by": n}) for n in range(8)])
    _race(*[lambda n=n: write(settings.put, "language", n) for n in range(8)])
    assert read(drafts.get, "train")["by"] in range(8)
    assert read(settings.get, "language") in range(8)


def test_a_queue_that_many_order_at_once_keeps_every_job_at_one_place(submit: Call, write: Call, read: Call) -> None:
    ids = [submit(f"run {number}").id for number in range(8)]
    moves = [
        lambda number=number: [
            write(jobs.place_before, ids[number], ids[(number * 3 + step) % 8] if step else None) for step in range(4)
        ]
        for number in range(8)
    ]
    results = _race(*moves)
    assert not [one for one in results if isinstance(one, Exception)]
    queue = read(jobs.queue)
    assert sorted(one.id for one in queue) == ids
    assert len({one.rank for one in queue}) == 8
    assert [read(jobs.queue_position, one.id) for one in queue] == list(range(1, 9))


def test_moves_and_claims_at_once_lose_no_job(submit: Call, write: Call, read: Call) -> None:
    ids = [submit(f"run {number}").id for number in range(12)]

    def order() -> None:
        for number in range(12):
            with contextlib.suppress(Conflict):
                write(jobs.place_before, ids[number], ids[-1 - number])

    def claim_all() -> list[int]:
        found = []
        while (taken := write(jobs.claim, WORKER, lanes=["gpu"], lease_s=60)) is not None:
            found.append(taken[0].job_id)
        return found

    _, *claimed = _race(order, *[claim_all] * 3)
    claimed.append(claim_all())
    assert sorted(job_id for some in claimed for job_id in some) == ids
    assert read(jobs.counts)[State.RUNNING] == 12


def test_a_checkpoint_that_is_listed_twice_at_once_is_one_row(
    running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    _race(*[lambda: write(checkpoints.add, running, new_checkpoint(5)) for _ in range(6)])
    assert [one.step for one in read(checkpoints.listing, running.job_id)] == [5]


def test_a_pin_that_races_the_removal_wins_or_comes_too_late(
    running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    for step in range(1, 21):
        row = write(checkpoints.add, running, new_checkpoint(step))
        pinned, removed = _race(
            lambda step=step: write(checkpoints.pin, running.job_id, step),
            lambda row=row: write(checkpoints.remove, row.id),
        )
        kept = [one.step for one in read(checkpoints.listing, running.job_id) if one.step == step]
        assert isinstance(pinned, NotFound) != isinstance(removed, NotFound)
        assert bool(kept) == isinstance(removed, NotFound)


def test_a_base_that_two_hosts_begin_to_load_at_once_is_loaded_by_one(write: Call, read: Call) -> None:
    begin = [
        lambda host=f"host-{number}": write(processes.add_first, base_key="k", host=host, pid=1, pid_start=None)
        for number in range(6)
    ]
    assert [one is not None for one in _race(*begin)].count(True) == 1
    assert len(read(processes.listing)) == 1


def test_a_job_that_goes_while_another_is_started_from_it_is_refused_or_gone(
    submit: Call, claim: Call, write: Call, read: Call
) -> None:
    for _ in range(10):
        parent = submit()
        write(jobs.settle, claim(), Settlement(State.SUCCEEDED))

        def begin(parent: Job = parent) -> Any:
            try:
                return submit(parent_id=parent.id, held=True)
            except IntegrityError as error:
                return error

        gone, child = _race(lambda parent=parent: write(jobs.delete, parent.id), begin)
        assert isinstance(gone, Conflict) != isinstance(child, IntegrityError)
        assert {one.parent_id for one in read(jobs.listing)} <= {one.id for one in read(jobs.listing)} | {None}


def test_the_points_of_one_run_are_numbered_in_the_order_in_which_they_can_be_seen(
    running: Claim, write: Call, read: Call
) -> None:
    """A reader that asks for what is newer than it has seen must never miss a point that was written meanwhile."""
    seen: dict[int, float | None] = {}
    ended = threading.Event()

    def report(first: int) -> None:
        for step in range(first, first + 40):
            write(metrics.append, running, [metrics.Point("loss", step, float(step))])

    def follow() -> None:
        version = 0
        while True:
            over = ended.is_set()
            newer = read(metrics.newer, running.job_id, after=version)
            seen.update(newer.series.get("loss", []))
            version = newer.version
            if over:
                return

    reader = threading.Thread(target=follow)
    reader.start()
    _race(lambda: report(1), lambda: report(41), lambda: report(81))
    ended.set()
    reader.join()
    assert seen == {step: float(step) for step in range(1, 121)}


def test_two_fields_of_a_form_that_are_changed_at_once_are_both_kept(store: Store, read: Call, write: Call) -> None:
    write(drafts.put, "chat", {"seed": 7})
    second_reads = threading.Event()

    def second() -> None:
        second_reads.set()
        with store.write() as session:
            kept = drafts.get(session, "chat", for_change=True)
            drafts.put(session, "chat", {**kept, "system": "Rhyme."})

    other = threading.Thread(target=second)
    with store.write() as session:
        kept = drafts.get(session, "chat", for_change=True)
        other.start()
        second_reads.wait(10)
        other.join(0.5)  # time to read what is about to change, if nothing stops it
        drafts.put(session, "chat", {**kept, "seed": 11})
    other.join(20)
    assert read(drafts.get, "chat") == {"seed": 11, "system": "Rhyme."}
