"""Asking a server: what is sent, what is asked again, what ends everything, and where the key goes."""

from __future__ import annotations

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from engine.runtime import posting
from engine.runtime.generating.endpoint import Endpoint, key_for
from engine.runtime.generating.protocol import NoReply, Wanted
from engine.specs import generators
from engine.specs.outside import Address
from engine.specs.problem import ProblemError
from tests.fakes.endpoint import FakeEndpoint

WANTED = Wanted(64, 0.5, 7)
ASKED = [{"role": "user", "content": "Why?"}]
HERE = frozenset({"127.0.0.1"})


@pytest.fixture
def server():
    made = FakeEndpoint(lambda _: "Because.")
    yield made
    made.close()


def endpoint(server, **settings):
    told = generators.Endpoint(url=server.url, model="m", **{"tries": 3, **settings})
    port = server.server.server_address[1]
    to = Address(False, "127.0.0.1", port, "/v1/chat/completions")
    return Endpoint(told, to, HERE, None, first_pause_s=0.01)


def test_a_request_says_what_the_protocol_wants(server):
    found = endpoint(server).reply(ASKED, WANTED, threading.Event())
    assert (found.text, found.is_cut, found.tokens_in, found.tokens_out) == ("Because.", False, 100, 20)
    assert server.asked == [{"model": "m", "messages": ASKED, "temperature": 0.5, "seed": 7, "max_tokens": 64}]
    assert server.paths == ["/v1/chat/completions"] and server.keys == [None]


def test_a_busy_server_is_asked_again(server):
    answers = iter([(503, {}), (429, {"error": {"message": "slow down"}}), "At last."])
    server.answer = lambda _: next(answers)
    assert endpoint(server).reply(ASKED, WANTED, threading.Event()).text == "At last."
    assert len(server.asked) == 3


def test_a_server_that_says_how_long_to_wait_is_waited_for(server):
    answers = iter([(429, {}), "At last."])
    server.answer = lambda _: next(answers)
    server.headers = {"Retry-After": "1"}
    began = time.monotonic()
    assert endpoint(server).reply(ASKED, WANTED, threading.Event()).text == "At last."
    assert time.monotonic() - began >= 1.0


def test_a_stop_ends_the_waiting(server):
    server.answer = lambda _: (503, {})
    server.headers = {"Retry-After": "60"}
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    with pytest.raises(NoReply, match="model_not_reached"):
        endpoint(server).reply(ASKED, WANTED, stop)
    assert time.monotonic() - began < 5 and len(server.asked) == 1


@pytest.mark.parametrize(
    ("answer", "error", "code", "count"),
    [
        ((500, {}), NoReply, "model_not_reached", 3),
        ((401, {"error": {"message": "bad key"}}), ProblemError, "model_key_refused", 1),
        ((404, {"error": {"message": "no such model"}}), ProblemError, "model_not_on_server", 1),
        ((400, {"error": {"message": "too long"}}), NoReply, "draft_refused", 1),
        ((302, {}), NoReply, "draft_refused", 1),
        (b"<html>", NoReply, "draft_odd_reply", 1),
        (b'{"choices": []}', NoReply, "draft_odd_reply", 1),
        (b'{"choices": [{"message": {"content": 1}}]}', NoReply, "draft_odd_reply", 1),
        (b"[" * 100_000, NoReply, "draft_odd_reply", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_a_server_may_say_instead(server, answer, error, code, count):
    server.answer = lambda _: answer
    with pytest.raises(error) as raised:
        endpoint(server).reply(ASKED, WANTED, threading.Event())
    found = raised.value.problem if error is NoReply else raised.value.problems[0]
    assert found.code == code and len(server.asked) == count


def test_what_the_server_says_was_wrong_is_told(server):
    server.answer = lambda _: (400, {"error": {"message": "context is 4096"}})
    with pytest.raises(NoReply) as raised:
        endpoint(server).reply(ASKED, WANTED, threading.Event())
    assert raised.value.problem.values["detail"] == "context is 4096"


def test_newer_models_are_told_the_length_under_its_newer_name(server):
    def answer(body):
        if "max_tokens" in body:
            return 400, {"error": {"message": "Use 'max_completion_tokens' instead."}}
        return "Yes."

    server.answer = answer
    asking = endpoint(server)
    server.wait_s = 0.2  # all four are under way under the old name before the first is refused
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda _: asking.reply(ASKED, WANTED, threading.Event()).text, range(4)))
    assert said == ["Yes."] * 4 and len(server.asked) == 8
    assert asking.reply(ASKED, WANTED, threading.Event()).text == "Yes." and len(server.asked) == 9


def test_a_reply_that_was_all_reasoning_is_cut_and_its_tokens_count(server):
    choice = {"message": {"content": None, "reasoning_content": "x"}, "finish_reason": "length"}
    told = {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 512}}
    server.answer = lambda _: json.dumps(told).encode()
    found = endpoint(server).reply(ASKED, WANTED, threading.Event())
    assert (found.text, found.is_cut, found.tokens_out) == ("", True, 512)


def test_a_name_that_leads_to_two_addresses_is_tried_at_both(server, monkeypatch):
    port = server.server.server_address[1]
    found = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", port, 0, 0))]
    found += [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
    whole = socket.getaddrinfo
    asked = lambda host, *more, **named: found if host == "localhost" else whole(host, *more, **named)  # noqa: E731
    monkeypatch.setattr(posting.socket, "getaddrinfo", asked)
    asking = endpoint(server)
    asking.to, asking.allow = Address(False, "localhost", port, "/v1/chat/completions"), frozenset({"localhost"})
    assert asking.reply(ASKED, WANTED, threading.Event()).text == "Because."


def test_a_reply_that_was_cut_says_so_and_half_characters_are_replaced(server):
    choice = {"message": {"content": "half \ud800"}, "finish_reason": "length"}
    server.answer = lambda _: json.dumps({"choices": [choice], "usage": {"prompt_tokens": "many"}}).encode()
    found = endpoint(server).reply(ASKED, WANTED, threading.Event())
    assert found.is_cut and found.text == "half \N{REPLACEMENT CHARACTER}"
    assert (found.tokens_in, found.tokens_out) == (None, None)


def test_no_server_at_all(server):
    asking = endpoint(server, tries=2)
    server.close()
    with pytest.raises(ProblemError, match="model_not_reached"):
        asking.reply(ASKED, WANTED, threading.Event())


def test_the_key_goes_to_its_own_host_alone(tmp_path, server):
    file = tmp_path / "endpoint_key"
    assert key_for(Address(True, "api.example.com", 443, "/"), file) is None
    file.write_text(json.dumps({"host": "api.example.com", "key": "secret"}))
    file.chmod(0o600)
    assert key_for(Address(True, "api.example.com", 443, "/"), file) == "secret"
    assert key_for(Address(True, "evil.example.com", 443, "/"), file) is None
    asking = endpoint(server)
    asking.key = "secret"
    asking.reply(ASKED, WANTED, threading.Event())
    assert server.keys == ["Bearer secret"]


def test_a_key_that_others_can_read_is_not_used(tmp_path):
    file = tmp_path / "endpoint_key"
    file.write_text(json.dumps({"host": "api.example.com", "key": "secret"}))
    file.chmod(0o644)
    with pytest.raises(ProblemError, match="endpoint_key_readable_by_others"):
        key_for(Address(True, "api.example.com", 443, "/"), file)
