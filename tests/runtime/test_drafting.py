"""The child that drafts rows: a real server, faults on the way, going on after them, the budget, and collecting."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from engine.data.rows import iterate_rows
from engine.runtime.child import Context, Stopped
from engine.runtime.drafting import main
from engine.specs import outside
from engine.specs.problem import ProblemError, problem
from storage import datasets, jobs, proposals
from storage.jobs import Settlement
from storage.states import State
from tests.data.doctor.making import row
from tests.fakes.endpoint import FakeEndpoint


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv(outside.ENDPOINT_ALLOW, "127.0.0.1")
    made = FakeEndpoint(lambda _: "Q: Why?\nA: So.\nQ: How?\nA: Thus.")
    yield made
    made.close()


@pytest.fixture
def order(studio, server):
    """Specs of drafting jobs on six documents, or on rows that were given."""

    def make(rows=None, *, recipe="questions", kind="text", recipe_settings=None, **more):
        rows = rows or [{"text": f"Document {number}."} for number in range(6)]
        studio.add_rows("source", rows, kind=kind)
        with studio.store.read() as session:
            version = datasets.get(session, "source")
        endpoint = {"kind": "endpoint", "url": server.url, "model": "m", "tries": 1, "at_once": 2}
        return {
            "data": {"dataset": "source", "version": version.version, "sha256": version.sha256},
            "recipe": {"kind": recipe, **(recipe_settings or {})},
            "generator": {**endpoint, **more.pop("generator", {})},
            "requests": None,
            **more,
        }

    return make


def claimed(studio, spec):
    job_id, token = studio.claim_job("draft", spec)
    return context_of(studio, job_id, token)


def context_of(studio, job_id, token):
    with studio.store.read() as session:
        job = jobs.get(session, job_id)
    return Context(studio.home, studio.store, job, jobs.Claim(job_id, job.attempt, token))


def again(studio, context):
    """Settle the attempt as failed, retry, and claim anew."""
    with studio.store.write() as session:
        jobs.settle(session, context.claim, Settlement(state=State.FAILED, reason="x", exit_code=70))
        jobs.retry(session, context.job.id)
        found = jobs.claim(session, jobs.Holder("w", "h", "b"), lanes=["cpu"], lease_s=600)
    return context_of(studio, found[0].job_id, found[0].token)


def drafts(studio, context, verdict="open"):
    with studio.store.read() as session:
        return proposals.listing(session, context.job.id, verdict)


def test_the_child_drafts_rows_for_a_person_to_read(studio, order, server):
    server.wait_s = 0.2
    code, said = studio.run_child("draft", order(generator={"price_in": 2.0, "price_out": 10.0}))
    assert code == 0, said
    expected = {"requests": 6, "rows": 12, "failed": 0, "tokens_in": 600, "tokens_out": 120, "passed_over": 0}
    assert {name: said["result"][name] for name in expected} == expected
    assert said["result"]["cost"] == pytest.approx((600 * 2 + 120 * 10) / 1e6)
    with studio.store.read() as session:
        first = proposals.listing(session, 1, "open")[0]
    assert first.source["shown"].startswith("Document ") and first.content["origin"] == "generated"
    assert server.most_at_once == 2
    assert len({one["seed"] for one in server.asked}) == 6


def test_a_reply_without_rows_is_kept_as_a_failure_with_its_text(studio, order, server):
    server.answer = lambda body: "No." if "Document 3." in body["messages"][0]["content"] else "Q: Why?\nA: So."
    context = claimed(studio, order())
    said = main(context)
    assert (said["rows"], said["failed"], said["requests"]) == (5, 1, 6)
    failed = drafts(studio, context, "failed")[0]
    assert failed.problem["code"] == "draft_no_pairs" and failed.problem["values"]["reply"] == "No."
    assert failed.source == {"row": 3, "shown": "Document 3."}


def test_an_attempt_goes_on_where_the_last_one_stopped_and_asks_for_failures_again(studio, order, server):
    def answer(body):
        text = body["messages"][0]["content"]
        if "Document 4." in text:
            return 401, {}
        return "No." if "Document 1." in text else "Q: Why?\nA: So."

    server.answer = answer
    context = claimed(studio, order(generator={"at_once": 1}))
    with pytest.raises(ProblemError, match="model_key_refused"):
        main(context)
    assert len(drafts(studio, context)) == 3 and len(server.asked) == 5
    server.answer = lambda _: "Q: Again?\nA: Yes."
    said = main(again(studio, context))
    assert (said["rows"], said["failed"]) == (6, 0)
    assert len(server.asked) == 8  # 1, 4 and 5
    assert said["tokens_in"] == 700  # the failure of before cost something too


def test_what_was_under_way_when_the_server_failed_is_kept(studio, order, server):
    both = threading.Barrier(2, timeout=20)

    def answer(body):
        both.wait()
        return (403, {}) if "Document 0." in body["messages"][0]["content"] else "Q: Why?\nA: So."

    server.answer = answer
    context = claimed(studio, order([{"text": "Document 0."}, {"text": "Document 1."}]))
    with pytest.raises(ProblemError, match="model_key_refused"):
        main(context)
    assert len(drafts(studio, context)) == 1 and len(server.asked) == 2


def test_it_stops_at_the_budget_and_says_so(studio, order, server):
    spec = order(generator={"price_in": 1e4, "at_once": 1}, budget=2.5)  # 1 for each request
    said = main(claimed(studio, spec))
    assert said["reason"] == "budget_reached" and len(server.asked) == 3 and said["cost"] == pytest.approx(3.0)


def test_a_budget_needs_a_server_that_counts(studio, order, server):
    server.usage = None
    with pytest.raises(ProblemError, match="spec_no_usage"):
        main(claimed(studio, order(generator={"price_in": 1.0, "at_once": 1}, budget=1.0)))
    assert len(server.asked) == 1


def test_a_request_that_always_fails_does_not_keep_the_others_from_being_asked(studio, order, server):
    server.answer = lambda body: (500, {}) if "Document 2." in body["messages"][0]["content"] else "Q: Why?\nA: So."
    context = claimed(studio, order())
    said = main(context)
    assert (said["rows"], said["failed"]) == (5, 1)
    assert drafts(studio, context, "failed")[0].problem["code"] == "model_not_reached"


def test_a_row_that_the_template_does_not_take_is_one_failure(studio, order, tiny_model, monkeypatch):
    from engine.data.render import Renderer

    whole = Renderer.prompt

    def choosy(self, messages, *more):
        if "What is 1?" in messages[-1]["content"]:
            raise ProblemError([problem("row_template_refused", detail="x")])
        return whole(self, messages, *more)

    monkeypatch.setattr(Renderer, "prompt", choosy)
    studio.add_base("tiny", tiny_model, dtype="float32")
    rows = [row(f"What is {n}?", "It is.") for n in range(3)]
    told = order(rows, kind="conversation", recipe="answers")
    context = claimed(studio, {**told, "generator": {"kind": "local", "target": "base:tiny"}, "max_tokens": 8})
    assert main(context)["requests"] == 3
    assert "row_template_refused" in {one.problem["code"] for one in drafts(studio, context, "failed")}


def test_it_does_not_go_on_paying_for_nothing(studio, order, server):
    server.answer = lambda _: "I am sorry."
    context = claimed(studio, order([{"text": f"Document {n}."} for n in range(40)], generator={"at_once": 1}))
    with pytest.raises(ProblemError) as raised:
        main(context)
    assert [one.code for one in raised.value.problems] == ["model_drafts_nothing", "draft_no_pairs"]
    assert len(server.asked) == 20


def test_a_cancelled_job_stops(studio, order, server):
    context = claimed(studio, order([{"text": f"Document {n}."} for n in range(40)], generator={"at_once": 1}))

    def answer(_):
        if len(server.asked) == 3:
            with studio.store.write() as session:
                jobs.cancel(session, context.job.id)
        return "Q: Why?\nA: So."

    server.answer = answer
    with pytest.raises(Stopped):
        main(context)
    assert 3 <= len(drafts(studio, context)) < 10


def test_a_stale_attempt_adds_nothing(studio, order):
    context = claimed(studio, order())
    again(studio, context)
    from storage.errors import Fenced

    with pytest.raises(Fenced):
        main(context)
    assert drafts(studio, context) == []


@pytest.mark.parametrize(
    ("changes", "code", "exit_code"),
    [
        ({"recipe": {"kind": "rephrase"}}, "data_recipe_rows", 65),
        (
            {"generator": {"kind": "endpoint", "url": "https://other.example.com/v1", "model": "m"}},
            "address_not_allowed",
            64,
        ),
        ({"generator": {"kind": "local", "target": "base:nobody"}}, "model_not_there", 66),
        ({"recipe": {"kind": "poem"}}, "spec_not_a_choice", 64),
        ({"budget": 1.0}, "spec_budget_without_price", 64),
        (
            {"generator": {"kind": "endpoint", "url": "http://127.0.0.1/v1?key=x", "model": "m"}},
            "spec_endpoint_query",
            64,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_done_is_said(studio, order, changes, code, exit_code):
    found, said = studio.run_child("draft", {**order(), **changes})
    assert (found, said["reason"]) == (exit_code, code)


def test_a_model_of_the_studio_drafts_too(studio, order, tiny_model):
    studio.add_base("tiny", tiny_model, dtype="float32")
    rows = [row(f"What is {n}?", "It is.") for n in range(3)]
    local = {"kind": "local", "target": "base:tiny"}
    spec = {**order(rows, kind="conversation", recipe="answers"), "generator": local, "max_tokens": 8}
    code, said = studio.run_child("draft", spec)
    assert code == 0, said
    assert said["result"]["requests"] == 3 and said["result"]["tokens_out"] > 0 and said["result"]["cost"] == 0


def test_what_was_kept_becomes_a_dataset(studio, order):
    context = claimed(studio, order())
    main(context)
    with studio.store.write() as session:
        jobs.settle(session, context.claim, Settlement(state=State.SUCCEEDED, reason="done", exit_code=0))
        ids = [one.id for one in proposals.listing(session, context.job.id, "open")]
        proposals.decide(session, context.job.id, ids[:3], "kept")
        changed = proposals.get(session, ids[3])
        turns = [{**turn, "content": turn["content"] + " Edited."} for turn in changed.content["messages"]]
        proposals.edit(session, changed.id, {**changed.content, "messages": turns})
        proposals.decide(session, context.job.id, ids[4:5], "left_out")
    code, said = studio.run_child("collect", {"job": context.job.id, "name": "questions"})
    assert code == 0, said
    with studio.store.read() as session:
        made = datasets.get(session, "questions")
    rows = list(iterate_rows(Path(made.path)))
    assert len(rows) == 4 and {one["origin"] for one in rows} == {"generated"}
    assert sum("Edited." in json.dumps(one) for one in rows) == 1
    assert made.made_from["operation"] == "draft" and made.made_from["settings"]["edited"] == 1
    assert made.made_from["settings"]["generator_model"] == "m"
    assert [one["name"] for one in made.made_from["parents"]] == ["source"]


def test_nothing_kept_makes_nothing(studio, order):
    context = claimed(studio, order())
    main(context)
    with studio.store.write() as session:
        jobs.settle(session, context.claim, Settlement(state=State.SUCCEEDED, reason="done", exit_code=0))
    assert studio.run_child("collect", {"job": context.job.id, "name": "x"})[1]["reason"] == "data_nothing_left"
    assert studio.run_child("collect", {"job": 99, "name": "x"})[1]["reason"] == "data_drafts_gone"
