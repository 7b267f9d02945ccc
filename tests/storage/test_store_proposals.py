"""Drafted rows: added under the job's claim, decided on by a person, counted with what they cost."""

from __future__ import annotations

import pytest

from storage import jobs, proposals
from storage.errors import Fenced, NotFound
from storage.proposals import Counts, NewUnit
from tests.storage.conftest import WORKER

ROW = {"messages": [{"role": "user", "content": "Why?"}]}
WRONG = {"code": "draft_no_pairs", "field": None, "line": None, "values": {}}


def unit(number, rows=2, *, problem=None, tokens=(10, 5)):
    return NewUnit(number, {"row": number, "shown": "text"}, [ROW] * rows, problem, *tokens)


@pytest.fixture
def claim(store):
    with store.write() as session:
        jobs.submit(session, kind="draft", name="x", spec={}, lane="cpu")
        return jobs.claim(session, WORKER, lanes=["cpu"], lease_s=60)[0]


def test_rows_are_counted_by_verdict_and_requests_by_their_tokens(store, claim):
    with store.write() as session:
        proposals.add(session, claim, unit(0))
        proposals.add(session, claim, unit(1, 0, problem=WRONG))
        proposals.add(session, claim, unit(2, 1, tokens=(None, None)))
        first, second, third = proposals.listing(session, claim.job_id, "open")
        proposals.edit(session, first.id, {"messages": []})
        assert proposals.decide(session, claim.job_id, [second.id], "left_out") == 1
    with store.read() as session:
        assert proposals.counts(session, claim.job_id) == Counts(
            open=1, kept=1, left_out=1, failed=1, edited=1, units=3, tokens_in=20, tokens_out=10
        )
        assert proposals.done(session, claim.job_id) == {0, 2}
        assert [one.content for one in proposals.kept(session, claim.job_id)] == [{"messages": []}]
        assert proposals.listing(session, claim.job_id, "open", after=third.id) == []
        assert proposals.counts(session, 99) == Counts(0, 0, 0, 0, 0, 0, 0, 0)


def test_a_failure_gives_way_to_rows_and_its_tokens_stay_counted(store, claim):
    with store.write() as session:
        proposals.add(session, claim, unit(0, 0, problem=WRONG))
        proposals.add(session, claim, unit(0, 0, problem=WRONG, tokens=(None, None)))
        proposals.add(session, claim, unit(0))
        found = proposals.counts(session, claim.job_id)
    assert (found.failed, found.open, found.units, found.tokens_in, found.tokens_out) == (0, 2, 1, 20, 10)


def test_a_decision_can_be_taken_back_and_all_open_ones_be_kept_at_once(store, claim):
    with store.write() as session:
        proposals.add(session, claim, unit(0, 3))
        proposals.add(session, claim, unit(1, 0, problem=WRONG))
        first = proposals.listing(session, claim.job_id, "open")[0]
        assert proposals.decide(session, claim.job_id, [first.id], "left_out") == 1
        assert proposals.decide(session, claim.job_id, None, "kept") == 2
        assert proposals.decide(session, claim.job_id, None, "kept") == 0
        assert proposals.decide(session, claim.job_id, [first.id], "open") == 1
        assert proposals.decide(session, 99, [first.id], "kept") == 0
        failed = proposals.listing(session, claim.job_id, "failed")[0]
        assert proposals.decide(session, claim.job_id, [failed.id], "kept") == 0
        with pytest.raises(NotFound):
            proposals.edit(session, failed.id, ROW)
        with pytest.raises(NotFound):
            proposals.get(session, 99)


def test_an_attempt_that_lost_its_claim_adds_nothing(store, claim):
    stale = jobs.Claim(claim.job_id, claim.attempt, claim.token - 1)
    with pytest.raises(Fenced), store.write() as session:
        proposals.add(session, stale, unit(0))
    with store.read() as session:
        assert proposals.counts(session, claim.job_id).units == 0


def test_drafts_go_with_their_job(store, claim):
    with store.write() as session:
        proposals.add(session, claim, unit(0))
        jobs.settle(session, claim, jobs.Settlement(state=jobs.State.SUCCEEDED, reason="done", exit_code=0))
        jobs.delete(session, claim.job_id)
    with store.read() as session:
        assert proposals.listing(session, claim.job_id, "open") == []
