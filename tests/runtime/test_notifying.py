"""Telling the webhook: a real receiver, its refusals, slowness and absence; and what is left after a death."""

from __future__ import annotations

import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from engine.runtime import notifying, posting
from engine.runtime import worker as worker_module
from engine.runtime.notifying import MOST_TRIES, Notifier, send
from engine.runtime.posting import NotReached
from engine.runtime.settings import Settings
from engine.runtime.worker import Worker
from engine.specs.base import Spec
from engine.specs.kinds import KINDS, JobKind
from engine.specs.outside import WEBHOOK_ALLOW, Address
from storage import jobs, notices, settings, workers
from storage.jobs import Holder, Settlement
from storage.states import State
from storage.workers import NewWorker

ALLOW = {WEBHOOK_ALLOW: "127.0.0.1"}
HOLDER = Holder("w", "h", "b")


class NoHelpers:
    """The standing children have tests of their own."""

    def __init__(self, *_: object) -> None:
        pass

    def tick(self) -> None:
        pass

    close = tick

    def is_busy(self) -> bool:
        return False


class Receiver:
    """A web server on this machine that notes what it is told and answers as it is set."""

    def __init__(self) -> None:
        self.told: list[dict] = []
        self.paths: list[str] = []
        self.answers: list[int] = []
        self.wait_s = 0.0
        receiver = self

        class Answering(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.paths.append(self.path)
                receiver.told.append(json.loads(body))
                time.sleep(receiver.wait_s)
                status = receiver.answers.pop(0) if receiver.answers else 204
                self.send_response(status)
                if status == 302:
                    self.send_header("Location", "/elsewhere")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/runs?key=1"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def receiver():
    made = Receiver()
    yield made
    made.server.shutdown()
    made.server.server_close()


def notifier(store, worker_id=1, **more):
    told = {"pause_s": 0.0, "environment": ALLOW, "look_every_s": 0.02, **more}
    return Notifier(store, worker_id, **told)


def aim(store, url):
    with store.write() as session:
        settings.put(session, notices.WEBHOOK, url)


def end(store, name="tone", state=State.SUCCEEDED, reason="done"):
    with store.write() as session:
        jobs.submit(session, kind="train", name=name, spec={"secret": "hf_canary_123456"}, lane="gpu")
        claim, _ = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=600)
        return jobs.settle(session, claim, Settlement(state, reason=reason)).id


def events(store, job_id):
    with store.read() as session:
        found = jobs.events(session, job_id)
    return [(one.kind, one.data) for one in found if one.kind in (notices.NOTIFIED, notices.NOTIFY_FAILED)]


def is_told(store, job_id):
    with store.read() as session:
        return jobs.get(session, job_id).notified_at is not None


def test_an_end_is_told_once_with_codes_and_numbers_alone(studio, receiver):
    aim(studio.store, receiver.url)
    job = end(studio.store, state=State.FAILED, reason="non_finite")
    one = notifier(studio.store)
    one.look()
    one.look()
    [body] = receiver.told
    assert {key: body[key] for key in ("id", "name", "state", "reason")} == {
        "id": job, "name": "tone", "state": "failed", "reason": "non_finite",
    }  # fmt: skip
    assert set(body) == {"id", "name", "state", "reason", "seconds"} and body["seconds"] >= 0
    assert receiver.paths == ["/runs?key=1"]
    assert events(studio.store, job) == [("notified", {})] and is_told(studio.store, job)


def test_without_a_webhook_an_end_counts_as_told_and_nobody_is_asked(studio, receiver):
    job = end(studio.store)
    notifier(studio.store).look()
    assert is_told(studio.store, job) and events(studio.store, job) == [] and receiver.told == []
    aim(studio.store, receiver.url)
    notifier(studio.store).look()
    assert receiver.told == [], "what ended before it was set is not told afterwards"


def test_a_receiver_that_fails_is_asked_again_until_it_takes_it(studio, receiver):
    aim(studio.store, receiver.url)
    receiver.answers = [500, 302]
    job = end(studio.store)
    one = notifier(studio.store)
    for _ in range(3):
        one.look()
    assert [kind for kind, _ in events(studio.store, job)] == ["notify_failed", "notify_failed", "notified"]
    assert [data.get("error") for _, data in events(studio.store, job)] == ["HTTP 500", "HTTP 302", None]
    assert receiver.paths == ["/runs?key=1"] * 3, "a redirect is not followed"
    with studio.store.read() as session:
        assert jobs.get(session, job).state == State.SUCCEEDED


def test_the_pause_before_another_try_grows(studio, receiver, monkeypatch):
    aim(studio.store, receiver.url)
    receiver.answers = [500] * 9
    end(studio.store)
    clock = [0.0]
    monkeypatch.setattr(notifying.time, "monotonic", lambda: clock[0])
    one = notifier(studio.store, pause_s=10.0)
    asked = []
    for second in range(100):
        clock[0] = float(second)
        before = len(receiver.told)
        one.look()
        asked += [second] * (len(receiver.told) - before)
    assert asked == [0, 10, 30, 70]


def test_it_gives_up_at_last_and_says_so(studio, receiver):
    aim(studio.store, receiver.url)
    receiver.answers = [503] * 20
    job = end(studio.store)
    one = notifier(studio.store)
    for _ in range(MOST_TRIES + 3):
        one.look()
    assert len(receiver.told) == MOST_TRIES and is_told(studio.store, job)
    assert events(studio.store, job)[-1] == ("notify_failed", {"error": "HTTP 503", "tries": MOST_TRIES})


def test_an_end_that_a_killed_worker_did_not_tell_is_told_by_the_next(studio, receiver):
    """The death is that nothing more is called: what is left is what the store holds."""
    aim(studio.store, receiver.url)
    receiver.answers = [500]
    job = end(studio.store)
    notifier(studio.store).look()
    notifier(studio.store, worker_id=2).look()
    assert len(receiver.told) == 2 and is_told(studio.store, job)


def test_a_run_that_is_retried_and_ends_again_is_told_again(studio, receiver):
    aim(studio.store, receiver.url)
    job = end(studio.store, state=State.FAILED, reason="killed")
    notifier(studio.store).look()
    with studio.store.write() as session:
        jobs.retry(session, job)
        claim, _ = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=600)
        jobs.settle(session, claim, Settlement(State.SUCCEEDED, reason="done"))
    notifier(studio.store).look()
    assert [one["state"] for one in receiver.told] == ["failed", "succeeded"]


def test_of_several_workers_the_first_one_tells(studio, receiver):
    aim(studio.store, receiver.url)
    with studio.store.write() as session:
        first = workers.add(session, NewWorker("a", 1, 1.0, "b"))
        second = workers.add(session, NewWorker("c", 1, 1.0, "b"))
    end(studio.store)
    notifier(studio.store, worker_id=second.id).look()
    assert receiver.told == []
    notifier(studio.store, worker_id=first.id).look()
    assert len(receiver.told) == 1
    end(studio.store)
    with studio.store.write() as session:
        session.connection().exec_driver_sql(f"UPDATE worker SET seen_at = seen_at - 60 WHERE id = {first.id}")
    notifier(studio.store, worker_id=second.id).look()
    assert len(receiver.told) == 2


@pytest.mark.parametrize(
    ("url", "environment", "error"),
    [
        ("https://hooks.example.com/", ALLOW, "address_not_allowed"),
        ("http://127.0.0.1:{port}/", {}, "address_not_allowed"),
        ("http://me:pw@127.0.0.1:{port}/", ALLOW, "address_credentials"),
    ],
)
def test_an_address_put_into_the_store_past_the_page_is_checked_all_the_same(studio, receiver, url, environment, error):
    aim(studio.store, url.format(port=receiver.port))
    job = end(studio.store)
    notifier(studio.store, environment=environment).look()
    assert receiver.told == [] and events(studio.store, job) == [("notify_failed", {"error": error, "tries": 1})]


def test_a_name_that_leads_to_this_machine_is_not_followed(receiver, monkeypatch):
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", receiver.port))]
    monkeypatch.setattr(posting.socket, "getaddrinfo", lambda *_, **__: found)
    to = Address(False, "hooks.example.com", receiver.port, "/")
    with pytest.raises(NotReached, match="private address"):
        send(to, b"{}", allow=frozenset({"hooks.example.com"}))
    assert receiver.told == []


def test_a_receiver_that_does_not_answer_is_given_up_in_time(receiver):
    receiver.wait_s = 5.0
    began = time.monotonic()
    with pytest.raises(NotReached):
        send(Address(False, "127.0.0.1", receiver.port, "/"), b"{}", allow=frozenset({"127.0.0.1"}), timeout_s=0.3)
    assert time.monotonic() - began < 2.0


def test_a_receiver_that_answers_byte_by_byte_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                try:
                    for byte in b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 1000:
                        connection.sendall(bytes([byte]))
                        time.sleep(0.05)
                except OSError:
                    return

        threading.Thread(target=drip, daemon=True).start()
        began = time.monotonic()
        with pytest.raises(NotReached):
            to = Address(False, "127.0.0.1", listener.getsockname()[1], "/")
            send(to, b"{}", allow=frozenset({"127.0.0.1"}), timeout_s=0.4)
        assert time.monotonic() - began < 2.0


def test_a_port_where_nobody_listens_is_a_failure_like_others(studio):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    aim(studio.store, f"http://127.0.0.1:{port}/")
    job = end(studio.store)
    notifier(studio.store).look()
    [(kind, data)] = events(studio.store, job)
    assert kind == "notify_failed" and "refused" in data["error"].lower()


def test_a_slow_receiver_does_not_hold_the_worker_up(studio, receiver):
    aim(studio.store, receiver.url)
    receiver.wait_s = 1.0
    job = end(studio.store)
    one = notifier(studio.store)
    one.start()
    until = time.monotonic() + 10
    while not receiver.told:
        assert time.monotonic() < until
        time.sleep(0.01)
    began = time.monotonic()
    with studio.store.write() as session:  # what a worker does meanwhile
        workers.add(session, NewWorker("a", 1, 1.0, "b"))
    assert time.monotonic() - began < 0.5 and not is_told(studio.store, job)
    one.close()
    assert is_told(studio.store, job), "the end of the worker waits for what is under way"


def test_an_end_just_before_the_worker_ends_is_still_told(studio, receiver):
    aim(studio.store, receiver.url)
    one = notifier(studio.store, look_every_s=60.0)
    one.start()
    time.sleep(0.1)
    job = end(studio.store)
    one.close()
    assert is_told(studio.store, job) and len(receiver.told) == 1


def test_a_worker_tells_the_end_of_its_last_job_before_it_leaves(studio, receiver, monkeypatch):
    monkeypatch.setenv(WEBHOOK_ALLOW, "127.0.0.1")
    monkeypatch.setitem(KINDS, "import", JobKind(Spec, "tests.fakes.steps", "cpu"))
    monkeypatch.setattr(worker_module, "Helpers", NoHelpers)
    aim(studio.store, receiver.url)
    with studio.store.write() as session:
        job = jobs.submit(session, kind="import", name="count", spec={"steps": 2}, lane="cpu").id
    Worker(studio.home, studio.store, Settings(poll_s=0.02)).run(until_job=job)
    assert [(one["id"], one["state"]) for one in receiver.told] == [(job, "succeeded")]
    with studio.store.read() as session:
        assert workers.listing(session) == []
