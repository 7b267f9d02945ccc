"""The other models of a run: a judge that is asked by several at once, and a teacher or reward model that is checked."""

from __future__ import annotations

import threading

import pytest

from engine.runtime.child import Context
from engine.runtime.device import Device
from engine.runtime.generating.protocol import NoReply
from engine.runtime.others import Others, means_of, replies
from engine.specs.problem import ProblemError, problem
from storage import jobs
from storage.jobs import Claim
from tests.fakes import byte_model
from tests.fakes.endpoint import FakeEndpoint


class Judge:
    """Answers each conversation with its own text; `failing` of them not at all, `broken` ends everything."""

    at_once = 3

    def __init__(self, failing=(), broken=()):
        self.failing, self.broken, self.stops = failing, broken, []

    def reply(self, messages, wanted, stop):
        text = messages[0]["content"]
        self.stops.append(stop)
        if text in self.failing:
            raise NoReply(problem("draft_odd_reply"))
        if text in self.broken:
            raise ProblemError([problem("model_not_reached", host="h", tries=1, detail="timeout")])
        return type("Reply", (), {"text": text})()


def asked(*texts):
    return [[{"role": "user", "content": text}] for text in texts]


def test_replies_come_in_the_order_of_the_questions_and_one_that_fails_is_none():
    beats = []
    found = replies(Judge(failing=("2",)), asked("1", "2", "3", "4"), lambda: beats.append(1))
    assert found == ["1", None, "3", "4"] and beats


def test_a_judge_that_cannot_be_reached_ends_the_waiting_of_all():
    judge = Judge(broken=("2",))
    with pytest.raises(ProblemError):
        replies(judge, asked("1", "2", "3"), lambda: None)
    assert all(isinstance(stop, threading.Event) and stop.is_set() for stop in judge.stops)


@pytest.fixture
def context(studio):
    job_id, token = studio.claim_job("other", {})
    with studio.store.read() as session:
        return Context(studio.home, studio.store, jobs.get(session, job_id), Claim(job_id, 1, token))


def test_the_judge_is_asked_at_an_address_on_the_list_alone_and_in_a_trial_by_nobody(context, monkeypatch):
    class Heard:
        def beat(self):
            self.heard = True

        def keep(self, step, new):
            raise AssertionError

    server = FakeEndpoint(lambda _: "8")
    reporter = Heard()
    try:
        judge = means_of(context, Device("cpu", False), reporter).judge
        with pytest.raises(ProblemError) as refused:
            judge(server.url, "m", 2)
        assert refused.value.problems[0].code == "address_not_allowed"
        monkeypatch.setenv("ATELIER_ENDPOINT_ALLOW", "127.0.0.1,localhost")
        assert judge(server.url, "m", 2)(asked("a", "b")) == ["8", "8"]
        assert reporter.heard and {one["temperature"] for one in server.asked} == {0.0}
        before = len(server.asked)
        assert means_of(context, Device("cpu", False), None).judge(server.url, "m", 2)(asked("a")) == [None]
        assert len(server.asked) == before
    finally:
        server.close()


def test_a_teacher_is_loaded_frozen_and_what_is_not_there_is_said(context, studio, tmp_path):
    folder = byte_model.write(tmp_path / "bytes")
    studio.add_base("bytes", folder)
    others = Others(context, Device("cpu", False))
    found = others.other("base:bytes")
    assert not any(weight.requires_grad for weight in found.model.parameters()) and not found.model.training
    assert found.tokenizer.eos_token == "<|im_end|>"
    with pytest.raises(ProblemError) as refused:
        others.other("99@3")
    assert refused.value.problems[0].code == "model_not_there"


def test_a_checkpoint_that_is_broken_teaches_nobody_and_a_language_model_gives_no_score(context, studio, tmp_path):
    folder = byte_model.write(tmp_path / "bytes")
    studio.add_base("bytes", folder)
    run = studio.add_run("bytes", lambda into: (into / "model.safetensors").write_bytes(b"x"), is_adapter=False)
    others = Others(context, Device("cpu", False))
    with pytest.raises(ProblemError) as refused:
        others.scorer(str(run))
    assert refused.value.problems[0].code == "reward_run_gives_no_score"
    path = next((studio.home.runs / str(run)).rglob("model.safetensors"))
    path.chmod(0o600)
    path.write_bytes(b"y")
    with pytest.raises(ProblemError) as refused:
        others.other(str(run))
    assert refused.value.problems[0].code == "model_checkpoint_broken"
