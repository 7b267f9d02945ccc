"""Samples of a run: written under its claim, read best first, thinned out with time, gone with the job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from storage import jobs, samples
from storage.errors import Fenced
from storage.jobs import Claim, Settlement
from storage.samples import LONGEST, NEWEST, THIN, NewSample
from storage.states import State
from tests.storage.conftest import WORKER

ONE = NewSample(0, "What is 2 + 2?", "4", "five", 2, False, 0.5, {"exact_match": 0.0, "length": 0.5})


@pytest.fixture
def claim(store):
    with store.write() as session:
        jobs.submit(session, kind="train", name="x", spec={}, lane="gpu")
        return jobs.claim(session, WORKER, lanes=["gpu"], lease_s=60)[0]


def test_the_samples_of_a_step_are_read_prompt_by_prompt_the_best_first(store, claim):
    drawn = [ONE, replace(ONE, completion="4", reward=1.0), replace(ONE, reward=None), replace(ONE, question=1)]
    with store.write() as session:
        samples.add(session, claim, 3, drawn)
    with store.read() as session:
        found = samples.of_step(session, claim.job_id, 3)
        assert [(one.question, one.reward, one.place) for one in found] == [
            (0, 1.0, 1),
            (0, 0.5, 0),
            (0, None, 2),
            (1, 0.5, 3),
        ]
        assert found[1].rewards == {"exact_match": 0.0, "length": 0.5}
        assert samples.of_step(session, claim.job_id, 4) == []


def test_a_step_drawn_again_replaces_what_was_there(store, claim):
    with store.write() as session:
        samples.add(session, claim, 3, [ONE, ONE])
        samples.add(session, claim, 3, [replace(ONE, completion="new")])
        assert [one.completion for one in samples.of_step(session, claim.job_id, 3)] == ["new"]


def test_a_stale_token_cannot_write_samples(store, claim):
    with pytest.raises(Fenced), store.write() as session:
        samples.add(session, Claim(claim.job_id, claim.attempt, claim.token + 1), 1, [ONE])


def test_what_is_no_number_is_kept_as_nothing_and_long_texts_are_cut(store, claim):
    odd = replace(ONE, prompt="a" + "b" * LONGEST, completion="c" * LONGEST + "d", reward=float("nan"))
    with store.write() as session:
        samples.add(session, claim, 1, [replace(odd, rewards={"judge": float("inf")})])
        found = samples.of_step(session, claim.job_id, 1)[0]
    assert found.prompt == "b" * LONGEST and found.completion == "c" * LONGEST
    assert found.reward is None and found.rewards == {"judge": None}


def test_the_newest_steps_stay_and_older_ones_thin_out(store, claim):
    with store.write() as session:
        for step in range(1, 401):
            samples.add(session, claim, step, [ONE])
        kept = samples.steps(session, claim.job_id)
    assert kept == sorted(kept, reverse=True)
    assert kept[:NEWEST] == list(range(400, 350, -1)) and kept[-1] == 1
    assert len(kept) <= NEWEST + THIN + 1
    older = kept[NEWEST:-1]
    assert older and {one % 8 for one in older} == {0}


def test_a_resumed_run_forgets_the_samples_past_its_checkpoint(store, claim):
    with store.write() as session:
        for step in (1, 2, 3):
            samples.add(session, claim, step, [ONE])
        jobs.resumed(session, claim, 2)
        assert samples.steps(session, claim.job_id) == [2, 1]


def test_samples_stay_when_the_run_has_ended_and_go_with_the_job(store, claim):
    with store.write() as session:
        samples.add(session, claim, 1, [ONE])
        jobs.settle(session, claim, Settlement(state=State.SUCCEEDED, reason="done", exit_code=0))
        assert samples.steps(session, claim.job_id) == [1]
        jobs.delete(session, claim.job_id)
        assert samples.steps(session, claim.job_id) == []
