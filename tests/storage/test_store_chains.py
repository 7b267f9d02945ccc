"""Chains: each stage starts from the result of the one before, exactly once, whatever dies in between."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from storage import chains, checkpoints, jobs, stages
from storage.chains import NewStage
from storage.database import Store
from storage.errors import Conflict, NotFound
from storage.jobs import Claim, Job, Settlement
from storage.states import State

Call = Callable[..., Any]
NAMES = ("pretrain", "sft", "dpo")


def spec(**model: Any) -> dict[str, Any]:
    told = {"id": "starter", "revision": None, "start_from": None, **model}
    return {"name": "any", "model": told, "tuner": {"kind": "lora"}, "resources": {"max_attempts": 2}}


@pytest.fixture
def chain(write: Call) -> Any:
    return write(chains.create, "domain", [NewStage(name, spec()) for name in NAMES], going=True)


@pytest.fixture
def run(write: Call, claim: Call, new_checkpoint: Call) -> Call:
    """Runs the next job of the queue to an end, with a checkpoint at each of these steps."""

    def run_next(*steps: int, state: State = State.SUCCEEDED) -> Claim:
        taken: Claim = claim()
        for step in steps:
            write(checkpoints.add, taken, new_checkpoint(step, path=f"/runs/{taken.job_id}/1/checkpoint-{step}"))
        write(jobs.settle, taken, Settlement(state))
        return taken

    return run_next


def states(read: Call, chain: Any) -> list[str]:
    return [item.state for item in read(stages.standings, chain.id)]


def outdated(read: Call, chain: Any) -> list[bool]:
    return [item.outdated for item in read(stages.standings, chain.id)]


def whole(read: Call, chain: Any) -> str:
    return stages.state_of(read(chains.get, chain.id), read(stages.standings, chain.id))


def stage(read: Call, chain: Any, place: int) -> chains.Stage:
    found: chains.Stage = read(chains.stages, chain.id)[place]
    return found


def go_through(write: Call, run: Call, chain: Any) -> list[Job]:
    made = []
    for _ in NAMES:
        made += write(stages.advance, chain.id)
        run(10)
    return made


def test_each_stage_starts_from_the_best_checkpoint_of_the_one_before(
    chain: Any, write: Call, read: Call, claim: Call, new_checkpoint: Call
) -> None:
    (first,) = write(stages.advance, chain.id)
    assert (first.name, first.spec["model"]["start_from"], first.parent_id) == ("domain · pretrain", None, None)
    taken = claim()
    for step, loss in ((10, 0.5), (20, 0.9)):
        write(checkpoints.add, taken, new_checkpoint(step, eval_loss=loss))
    assert write(stages.advance, chain.id) == []
    write(jobs.settle, taken, Settlement(State.SUCCEEDED))
    assert read(stages.ready) == [chain.id]
    (second,) = write(stages.advance, chain.id)
    assert (second.spec["model"]["start_from"], second.parent_id) == (f"{first.id}@10", first.id)
    assert second.max_attempts == 2
    assert read(checkpoints.get, first.id, 10).pinned
    assert stage(read, chain, 1).spec["model"]["start_from"] is None
    assert states(read, chain) == ["succeeded", "queued", "waiting"]


def test_a_chain_runs_to_its_end(chain: Any, write: Call, read: Call, run: Call) -> None:
    assert whole(read, chain) == "running"
    made = go_through(write, run, chain)
    assert [one.spec["model"]["start_from"] for one in made] == [None, f"{made[0].id}@10", f"{made[1].id}@10"]
    assert (whole(read, chain), read(stages.ready), write(stages.advance, chain.id)) == ("done", [], [])


def test_a_failed_stage_stops_the_chain_until_it_is_retried(chain: Any, write: Call, read: Call, run: Call) -> None:
    (first,) = write(stages.advance, chain.id)
    run(state=State.FAILED)
    assert write(stages.advance, chain.id) == []
    assert (whole(read, chain), states(read, chain)) == ("blocked", ["failed", "waiting", "waiting"])
    write(jobs.retry, first.id)
    run(10)
    (second,) = write(stages.advance, chain.id)
    assert second.spec["model"]["start_from"] == f"{first.id}@10"


def test_a_stage_that_left_no_checkpoint_stops_the_chain(chain: Any, write: Call, read: Call, run: Call) -> None:
    write(stages.advance, chain.id)
    run()
    assert (read(stages.ready), write(stages.advance, chain.id), whole(read, chain)) == ([], [], "blocked")


def test_a_stage_whose_run_was_deleted_is_not_run_again_by_itself(
    chain: Any, write: Call, read: Call, run: Call
) -> None:
    (first,) = write(stages.advance, chain.id)
    run(10)
    write(jobs.delete, first.id)
    assert (write(stages.advance, chain.id), states(read, chain)[0]) == ([], "deleted")
    (again,) = write(stages.repeat, stage(read, chain, 0).id)
    assert again.id != first.id


def test_a_kill_between_job_and_stage_leaves_neither(chain: Any, store: Store, write: Call, read: Call) -> None:
    class Killed(Exception):
        pass

    with pytest.raises(Killed), store.write() as session:
        assert len(stages.advance(session, chain.id)) == 1
        raise Killed
    assert (read(jobs.listing), stage(read, chain, 0).wanted) == ([], True)
    assert len(write(stages.advance, chain.id)) == 1


def test_two_workers_at_once_submit_one_job(chain: Any, store: Store, read: Call) -> None:
    gate, made = threading.Barrier(4), []

    def work() -> None:
        gate.wait()
        for _ in range(5):
            with store.write() as session:
                made.extend(stages.advance(session, chain.id))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for one in workers:
        one.start()
    for one in workers:
        one.join()
    assert (len(made), len(read(jobs.listing)), stage(read, chain, 0).num_runs) == (1, 1, 1)


def test_a_repeated_stage_puts_the_later_ones_out_of_date_and_keeps_its_earlier_run(
    chain: Any, write: Call, read: Call, run: Call
) -> None:
    made = go_through(write, run, chain)
    second = stage(read, chain, 1)
    (again,) = write(stages.repeat, second.id)
    assert again.spec["model"]["start_from"] == f"{made[0].id}@10"
    assert outdated(read, chain) == [False, False, True]
    assert [one.id for one in read(stages.runs, second.id)] == [made[1].id, again.id]
    run(10)
    assert (write(stages.advance, chain.id), states(read, chain)[2]) == ([], "succeeded")
    assert (whole(read, chain), outdated(read, chain)[2]) == ("done", True)


def test_a_stage_is_repeated_with_all_that_follow(chain: Any, write: Call, read: Call, run: Call) -> None:
    made = go_through(write, run, chain)
    write(stages.repeat, stage(read, chain, 1).id, following=True)
    assert states(read, chain) == ["succeeded", "queued", "waiting"]
    again = run(30)
    (last,) = write(stages.advance, chain.id)
    assert last.spec["model"]["start_from"] == f"{again.job_id}@30"
    run(10)
    assert (outdated(read, chain), whole(read, chain)) == ([False] * 3, "done")
    assert len(read(jobs.listing)) == 5 and made[1].id != again.job_id


def test_a_stage_that_runs_is_neither_repeated_nor_changed_nor_moved_nor_removed(
    chain: Any, write: Call, read: Call
) -> None:
    write(stages.advance, chain.id)
    first = stage(read, chain, 0).id
    asked = [(stages.repeat,), (chains.change_stage, spec()), (chains.move_stage, 1), (chains.remove_stage,)]
    for verb, *more in asked:
        with pytest.raises(Conflict) as caught:
            write(verb, first, *more)
        assert caught.value.code == "stage_under_way"


def test_changed_settings_put_a_stage_and_the_later_ones_out_of_date(
    chain: Any, write: Call, read: Call, run: Call
) -> None:
    go_through(write, run, chain)
    second = stage(read, chain, 1)
    write(chains.change_stage, second.id, {**second.spec, "tuner": {"kind": "full"}})
    assert outdated(read, chain) == [False, True, True]
    (again,) = write(stages.repeat, second.id)
    assert (again.spec["tuner"], outdated(read, chain)) == ({"kind": "full"}, [False, False, True])


def test_a_stopped_chain_begins_nothing_and_goes_on_from_what_was_kept(
    chain: Any, write: Call, read: Call, run: Call
) -> None:
    (first,) = write(stages.advance, chain.id)
    write(stages.stop, chain.id)
    assert (read(jobs.get, first.id).held, whole(read, chain)) == (True, "paused")
    write(stages.start, chain.id)
    assert not read(jobs.get, first.id).held
    run(10)
    write(stages.stop, chain.id)
    assert (read(stages.ready), write(stages.advance, chain.id), whole(read, chain)) == ([], [], "stopped")
    (second,) = write(stages.start, chain.id)
    assert second.spec["model"]["start_from"] == f"{first.id}@10"


def test_stopping_asks_the_run_under_way_to_keep_what_it_has(chain: Any, write: Call, read: Call, claim: Call) -> None:
    (first,) = write(stages.advance, chain.id)
    claim()
    write(stages.stop, chain.id)
    assert read(jobs.get, first.id).stop_requested_at is not None


def test_a_chain_is_put_together_before_it_begins(write: Call, read: Call) -> None:
    made = write(chains.create, "later")
    assert whole(read, made) == "empty"
    with pytest.raises(Conflict, match="chain_empty"):
        write(stages.start, made.id)
    for name in NAMES:
        write(chains.add_stage, made.id, NewStage(name, spec()))
    with pytest.raises(Conflict, match="stage_name_taken"):
        write(chains.add_stage, made.id, NewStage("sft", spec()))
    write(chains.move_stage, stage(read, made, 2).id, 0)
    write(chains.remove_stage, stage(read, made, 1).id)
    assert [(one.place, one.name) for one in read(chains.stages, made.id)] == [(0, "dpo"), (1, "sft")]
    assert (whole(read, made), read(jobs.listing)) == ("draft", [])
    (first,) = write(stages.start, made.id)
    assert first.name == "later · dpo"
    for number in range(chains.MOST_STAGES - 2):
        write(chains.add_stage, made.id, NewStage(f"more {number}", spec()))
    with pytest.raises(Conflict, match="chain_too_long"):
        write(chains.add_stage, made.id, NewStage("too many", spec()))


def test_a_first_stage_keeps_what_it_starts_from(write: Call, read: Call, run: Call, submit: Call) -> None:
    earlier = submit(spec=spec())
    run(10)
    started = [NewStage("sft", spec(start_from=f"{earlier.id}@10"))]
    made = write(chains.create, "on", started, going=True)
    (first,) = write(stages.advance, made.id)
    assert (first.parent_id, read(checkpoints.get, earlier.id, 10).pinned) == (earlier.id, True)
    gone = write(chains.create, "gone", [NewStage("sft", spec(start_from="99@1"))], going=True)
    (lost,) = write(stages.advance, gone.id)
    assert lost.parent_id is None


def test_a_chain_is_found_and_forgotten_without_its_runs(chain: Any, write: Call, read: Call) -> None:
    (first,) = write(stages.advance, chain.id)
    assert [one.name for one in read(chains.listing)] == ["domain"]
    assert read(chains.named, "domain").id == chain.id
    write(chains.delete, chain.id)
    assert read(chains.listing) == [] and read(jobs.get, first.id).state == State.QUEUED
    for lookup in ((chains.get, chain.id), (chains.named, "domain"), (chains.stage_by_id, 1), (chains.lock, chain.id)):
        with pytest.raises(NotFound):
            write(*lookup)
