"""Rows 1 and 36: the pages' process is killed in the middle of things, and many browsers ask at once."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from storage import jobs, messages, models
from storage.models import NewModel
from tests.bench.studio import free_port
from tests.faults.clicks import UPLOAD_BYTES
from tests.faults.house import ROOT, House
from tests.faults.test_processes import undisturbed

TURNS = 50
CLIENTS, ASKS = 50, 20
CHARTS: dict[str, Any] = {"objective": {"kind": "sft"}}


def clicked(house: House, what: str) -> dict[str, Any]:
    """Let a page process do a thing, and others begin it and die; what each had acknowledged."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.clicks", str(house.home.root), what, str(TURNS), str(house.seed)],
        cwd=ROOT, env=house.environment, capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return {one["key"]: one["answer"] for one in map(json.loads, done.stdout.splitlines())}


@pytest.fixture
def listed(each_house: House) -> House:
    with each_house.store.write() as session:
        models.add(session, NewModel(name="base", path="/models/base", source="folder", bytes=1))
    return each_house


def test_01_a_page_killed_while_it_submits_leaves_a_whole_job_or_none(listed: House) -> None:
    house = listed
    told = clicked(house, "submit")
    found = {job.id: job for job in house.jobs()}
    assert set(told.values()) <= set(found)
    assert 1 < len(told) < TURNS, "some died before and some after: else nothing was tested"
    for job in found.values():
        assert job.spec["name"] == "clicked"
        assert [one.kind for one in house.events(job.id)] == ["submitted"]
        house.ask(jobs.cancel, job.id)


def test_01_a_page_killed_while_it_takes_a_file_leaves_it_whole_or_unnamed(listed: House) -> None:
    house = listed
    told = clicked(house, "upload")
    assert 1 < len(told) < TURNS
    for key, name in told.items():
        staged = (house.home.staging / name).read_bytes()
        assert len(staged) == UPLOAD_BYTES and staged.startswith(key.encode())
    assert house.jobs() == []


def test_01_a_page_killed_while_it_asks_leaves_both_answers_waiting_or_nothing(listed: House) -> None:
    house = listed
    told = clicked(house, "chat")
    assert 1 < len(told) < TURNS
    with house.store.read() as session:
        talks = messages.conversations(session)
        turns = [messages.transcript(session, one.id) for one in talks]
        answers = {number for one in told.values() for number in one}
        assert all(messages.get(session, number).state == "queued" for number in answers)
    assert all(len(turn) == 3 for turn in turns), "a question and its two answers"
    assert len(turns) >= len(told)


class Web:
    """A real `atelier up` on a house whose worker lives already."""

    def __init__(self, house: House) -> None:
        self.house, self.port = house, free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", "from app.cli import main; main()", "up", "--port", str(self.port)]
        with (self.house.root / "web.log").open("ab") as log:
            process = subprocess.Popen(
                command, cwd=ROOT, env=self.house.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.house.wait(self.answers, 120, "the pages")
        return process

    def again(self) -> None:
        """Kill it, and start another in its place."""
        self.process.kill()
        self.process.wait()
        self.process = self._start()

    def answers(self) -> bool:
        try:
            return bool(self.get("/")[0] == 200)
        except OSError:
            return False

    def get(self, path: str) -> tuple[int, bytes]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=30) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def live(self, job_id: int, after: str = "") -> dict[str, Any]:
        return json.loads(self.get(f"/live/metrics?run={job_id}&after={after}")[1])["runs"][0]

    def half_an_upload(self) -> None:
        """Send the beginning of a file and leave the rest unsaid."""
        head = (
            f"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nOrigin: {self.address}\r\n"
            "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 4000000\r\n\r\n"
            '--x\r\nContent-Disposition: form-data; name="files"; filename="rows.jsonl"\r\n\r\n'
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as line:
            line.sendall(head.encode() + b'{"a": 1}\n' * 100_000)
            time.sleep(0.2)
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(60)


@pytest.fixture
def web(house: House) -> Iterator[Web]:
    house.start()
    house.wait(lambda: "worker" in house.workers[0].said() or house.workers[0].lives(), 5)
    time.sleep(3.0)  # the worker has listed itself: the pages attach to it
    made = Web(house)
    yield made
    made.stop()


@pytest.mark.timeout(400)
def test_01_the_training_does_not_notice_that_its_page_is_killed(web: Web, house: House) -> None:
    job_id = house.submit(steps=4000, save_every=100, **CHARTS)
    house.reach(job_id, 20)
    web.half_an_upload()
    reached = house.job(job_id).progress_step or 0
    house.wait(lambda: (house.job(job_id).progress_step or 0) > reached + 50, 30, "it trains without a page")
    web.again()
    shown = web.live(job_id)
    assert shown["live"] and dict(map(tuple, shown["series"]["loss"])) == {
        step: value for step, value in house.curve(job_id) if step <= shown["series"]["loss"][-1][0]
    }
    house.ask(jobs.stop_and_keep, job_id)
    house.finish(job_id)
    assert house.outcomes(job_id) == ["succeeded"]
    assert not web.live(job_id)["live"]


@pytest.mark.timeout(400)
def test_36_fifty_browsers_that_come_and_go_lose_no_point(web: Web, house: House) -> None:
    job_id = house.submit(steps=1500, save_every=500, **CHARTS)
    house.reach(job_id, 10)
    version = house.job(job_id).token
    curves: dict[int, dict[int, float]] = {}
    wrong: list[str] = []

    def browse(number: int) -> None:
        """Ask for what is new, again and again; every third of them forgets where it was, as a reload does."""
        curve: dict[int, float] = {}
        after = ""
        for turn in range(ASKS):
            try:
                told = web.live(job_id, after)
            except OSError as error:
                wrong.append(f"{number}: {error}")
                return
            if told["anew"]:
                curve = {}
            curve |= dict(told["series"].get("loss", []))
            after = "" if number % 3 == 0 and turn % 5 == 4 else told["after"]
            time.sleep(0.05)
        told = web.live(job_id, after)
        curve = ({} if told["anew"] else curve) | dict(told["series"].get("loss", []))
        curves[number] = curve

    browsers = [threading.Thread(target=browse, args=(number,)) for number in range(CLIENTS)]
    for one in browsers:
        one.start()
    for one in browsers:
        one.join()
    assert wrong == []
    assert len(curves) == CLIENTS
    whole = dict(house.curve(job_id))
    for number, curve in curves.items():
        assert sorted(curve) == list(range(1, len(curve) + 1)), f"browser {number} has gaps"
        assert curve.items() <= whole.items()
    assert house.job(job_id).token == version, "asking changed nothing"
    house.ask(jobs.stop_and_keep, job_id)
    house.finish(job_id)
    undisturbed(house, job_id, (house.job(job_id).result or {})["steps"])
