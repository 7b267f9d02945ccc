"""The Queue page: order, reasons, workers, orders, and what it says when a job has moved on."""

from __future__ import annotations

import os
import socket
import time

import gradio as gr
import pytest

from app import crew, draft, queuestate, queueview
from app.pages import queue as page
from app.queuestate import Paces
from engine.specs.living import start_time
from storage import jobs, workers
from storage.job_values import job as job_table
from storage.jobs import Settlement
from storage.states import State
from storage.workers import NewWorker
from tests.app.conftest import HOLDER

NOW = time.time()


@pytest.fixture
def parts(ui):
    with gr.Blocks():
        return page.lay_out(ui)


@pytest.fixture
def show(ui, parts):
    def refreshed(seen=None):
        return page.refresh(ui, parts, Paces(), seen or {})

    return refreshed


@pytest.fixture
def give(ui, parts):
    def ordered(order):
        return page.obey(ui, parts, Paces(), f"{order}:12345", {})

    return ordered


def order_of(ui):
    with ui.store.read() as session:
        return [job.name for job in jobs.queue(session)]


def submit_light(ui, name="import"):
    with ui.store.write() as session:
        return jobs.submit(session, kind="import", name=name, spec={}, lane="cpu")


# --- showing -------------------------------------------------------------------------------------------------------


def test_an_empty_queue_says_what_will_stand_there_and_that_no_worker_lives(show, parts):
    shown = show()
    assert "Nothing waits" in shown[parts.waiting] and "/train" in shown[parts.waiting]
    assert "No worker has been heard of" in shown[parts.crew]
    assert shown[parts.running] == "" and shown[parts.failed] == ""


def test_waiting_jobs_stand_in_the_order_in_which_they_are_taken_lane_by_lane(ui, show, parts, runs):
    one, two = runs.submit("one"), runs.submit("two")
    submit_light(ui)
    with ui.store.write() as session:
        jobs.place_before(session, two.id, one.id)
    shown = show()[parts.waiting]
    assert shown.index(">two<") < shown.index(">one<") < shown.index(">import<")
    assert shown.index('data-lane="gpu"') < shown.index('data-lane="cpu"')
    assert "queued 1" in shown and "queued 2" in shown


def test_a_running_job_stands_on_top_with_worker_device_and_end(ui, show, parts, runs):
    with ui.store.write() as session:
        workers.add(session, NewWorker("laptop", 1, 1.0, "boot-1", [{"kind": "cuda", "name": "H100"}]))
    runs.submit("tone")
    claim = runs.claim()
    with ui.store.write() as session:
        worker = workers.live(session)[0]
        session.connection().exec_driver_sql(f"UPDATE job SET owner = '{worker.host}:{worker.pid}'")
    runs.train(claim, 3, total=10)
    shown = show()
    for word in ("tone", "laptop", "H100", "step 3 of 10", 'data-order="pause:1"', 'data-order="cancel:1"'):
        assert word in shown[parts.running], word
    assert "its worker is gone" not in shown[parts.running]
    assert shown[parts.running].count("not yet known") == 0, "its own pace tells the end"
    assert "tone" in shown[parts.crew]


@pytest.mark.parametrize(
    ("settlement", "words"),
    [
        (Settlement("requeue", reason="killed", values={"signal": "SIGKILL"}, run_after_s=600), ["again at", "SIGKILL"]),
        (
            Settlement("requeue", reason="disk_full", values={"needed_bytes": 2e9, "free_bytes": 1e6}, run_after_s=600),
            ["waits for disk space", "2.0 GB are needed", "1.0 MB are free"],
        ),
        (Settlement("requeue", reason="stopped", held=True, counts=False), ["paused", "Release lets it run"]),
    ],
)  # fmt: skip
def test_a_job_that_waits_says_why(ui, show, parts, runs, settlement, words):
    runs.submit()
    claim = runs.claim()
    with ui.store.write() as session:
        jobs.settle(session, claim, settlement)
    shown = show()[parts.waiting]
    for word in words:
        assert word in shown, word


def test_what_earlier_runs_tell_is_forecast_and_the_rest_is_not_guessed(ui, show, parts, runs, shelf):
    shelf.worker()
    runs.submit("earlier")
    claim = runs.claim()
    runs.train(claim, 6, total=6)
    runs.settle(claim, State.SUCCEEDED)
    like, other = runs.submit("like"), runs.submit("other", model__id="bigger")
    with ui.store.read() as session:
        scene = queuestate.read(session, Paces(), NOW)
    assert scene.spans[like.id].start == NOW and scene.spans[like.id].end > NOW
    assert scene.spans[other.id].start == scene.spans[like.id].end and scene.spans[other.id].end is None
    assert "not yet known" in show()[parts.waiting]


def test_other_jobs_take_as_long_as_the_last_of_their_kind_did(ui, shelf):
    shelf.worker()

    def export(*, took=None, running=False):
        with ui.store.write() as session:
            made = jobs.submit(session, kind="export", name="export", spec={}, lane="gpu")
            if took is not None or running:
                claim, _ = jobs.claim(session, HOLDER, lanes=["gpu"], lease_s=3600)
                began = NOW - (30 if running else 7200)
                session.execute(job_table.update().where(job_table.c.id == made.id).values(started_at=began))
            if took is not None:
                jobs.settle(session, claim, Settlement(State.SUCCEEDED, reason="done"))
                session.execute(job_table.update().where(job_table.c.id == made.id).values(finished_at=began + took))
        return made

    for took in (80, 90, 5000):
        export(took=took)
    running, waiting = export(running=True), export()
    with ui.store.write() as session:
        first = jobs.submit(session, kind="trial", name="trial", spec={}, lane="gpu")
        worker = workers.live(session)[0]
        owner = f"{worker.host}:{worker.pid}"
        session.execute(job_table.update().where(job_table.c.id == running.id).values(owner=owner))
    with ui.store.read() as session:
        spans = queuestate.read(session, Paces(), NOW).spans
    assert spans[running.id].end == pytest.approx(NOW + 60, abs=0.01)
    assert spans[waiting.id].end == pytest.approx(NOW + 150, abs=0.01)
    assert (spans[first.id].start, spans[first.id].end) == (spans[waiting.id].end, None), "never guessed"


def test_a_tick_on_an_unchanged_queue_sends_nothing(show, parts, runs):
    runs.submit()
    assert show(show()[parts.seen]) == gr.skip()


def test_a_nasty_name_stays_text(ui, show, parts, runs):
    runs.submit("<img src=x onerror=alert(1)>")
    shown = show()[parts.waiting]
    assert "&lt;img" in shown and "<img" not in shown


def test_what_failed_within_a_day_stands_below_with_its_remedy(ui, show, parts, runs):
    job = runs.submit("bad one")
    runs.settle(runs.claim(), State.FAILED, "killed", values={"signal": "SIGKILL"})
    shown = show()[parts.failed]
    assert "bad one" in shown and f'data-order="remedy:{job.id}:retry"' in shown and ">machine<" in shown


# --- workers -------------------------------------------------------------------------------------------------------


def test_a_worker_not_seen_for_its_lease_is_shown_as_gone(ui, show, parts, shelf):
    shelf.worker()
    assert "alive" in show()[parts.crew]
    with ui.store.write() as session:
        session.connection().exec_driver_sql("UPDATE worker SET seen_at = seen_at - 16")
    shown = show()[parts.crew]
    assert "gone, last seen" in shown and "alive" not in shown


def test_a_killed_worker_of_this_host_is_gone_at_once(ui, show, parts):
    started = start_time(os.getpid())
    with ui.store.write() as session:
        workers.add(session, NewWorker(socket.gethostname(), os.getpid(), started, "boot"))
        workers.add(session, NewWorker(socket.gethostname(), os.getpid(), started - 500, "boot"))
    with ui.store.read() as session:
        assert [one.lives for one in crew.members(session)] == [True, False]
        assert [one.pid_start for one in crew.living(session)] == [started]


# --- orders --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        ("up:3", ["a", "c", "b", "d"]),
        ("up:1", ["a", "b", "c", "d"]),
        ("down:1", ["b", "a", "c", "d"]),
        ("down:3", ["a", "b", "d", "c"]),
        ("down:4", ["a", "b", "c", "d"]),
        ("top:4", ["d", "a", "b", "c"]),
        ("place:4:2", ["a", "d", "b", "c"]),
        ("place:1:0", ["b", "c", "d", "a"]),
        ("priority:3:high", ["c", "a", "b", "d"]),
        ("priority:1:low", ["b", "c", "d", "a"]),
    ],
)
def test_jobs_are_moved(ui, give, parts, runs, order, expected):
    for name in "abcd":
        runs.submit(name)
    assert give(order)[parts.said] == ""
    assert order_of(ui) == expected


def test_a_job_is_held_released_and_cancelled(ui, give, show, parts, runs):
    job = runs.submit()
    give(f"hold:{job.id}")
    assert f'data-order="release:{job.id}"' in show()[parts.waiting]
    give(f"release:{job.id}")
    assert f'data-order="hold:{job.id}"' in show()[parts.waiting]
    give(f"cancel:{job.id}")
    with ui.store.read() as session:
        assert jobs.get(session, job.id).state == State.CANCELLED


def test_a_clone_fills_the_form_and_goes_there(ui, give, parts, runs):
    job = runs.submit()
    assert 'href="/train"' in give(f"clone:{job.id}")[parts.said]
    with ui.store.read() as session:
        assert draft.chosen(session)["data.dataset"] == "tickets"


@pytest.mark.parametrize("order", ["up:1", "down:1", "top:1", "hold:1", "priority:1:high", "place:1:2", "place:2:1"])
def test_a_job_that_has_begun_meanwhile_is_said_so_and_nothing_changes(ui, give, parts, runs, order):
    runs.submit("one")
    runs.submit("two")
    runs.claim()
    said = give(order)[parts.said]
    assert "is not waiting any more" in said and "begun or ended meanwhile" in said
    assert order_of(ui) == ["two"]


@pytest.mark.parametrize("order", ["", "up", "up:x", "up:99", "drop:1", "priority:1:9", "place:1:x", "up:" + "9" * 40])
def test_an_order_that_makes_no_sense_changes_nothing(ui, give, parts, runs, order):
    runs.submit("one")
    give(order)
    assert order_of(ui) == ["one"]


def test_two_browsers_that_move_at_once_both_get_what_the_store_says(ui, parts, runs):
    for name in "abc":
        runs.submit(name)
    first = page.obey(ui, parts, Paces(), "top:3:1", {})
    second = page.obey(ui, parts, Paces(), "top:2:2", {})
    assert order_of(ui) == ["b", "c", "a"]
    assert first[parts.seen] != second[parts.seen]
    assert page.refresh(ui, parts, Paces(), first[parts.seen])[parts.waiting] == second[parts.waiting]


def test_the_first_cannot_go_up_and_the_last_not_down(show, parts, runs):
    runs.submit("only")
    shown = show()[parts.waiting]
    for verb in ("top", "up", "down"):
        button = shown[shown.index(f'data-order="{verb}:1"') :].split(">")[0]
        assert "disabled" in button, verb


def test_every_control_of_the_queue_has_a_name(show, parts, runs):
    runs.submit("tone")
    shown = show()[parts.waiting]
    for label in ("Move tone to the top", "Move tone up", "Move tone down", "Priority of tone"):
        assert f'aria-label="{label}"' in shown, label


def test_priorities_have_names():
    assert [queueview.level_of(value) for value in (10, 3, 0, -1)] == ["high", "high", "normal", "low"]


def test_a_job_that_no_worker_can_do_says_what_each_lacks(ui, show, parts, runs):
    job = runs.submit("tone")
    with ui.store.write() as session:
        north, south = (workers.add(session, NewWorker(host, 1, None, "boot")) for host in ("north", "south"))
        workers.seen(session, north.id, cannot={str(job.id): "gpu"})
    assert "No worker can do it" not in show()[parts.waiting], "the other may still take it"
    with ui.store.write() as session:
        workers.seen(session, south.id, cannot={str(job.id): "/data/<base>"})
    assert "No worker can do it: north has no GPU; south does not see /data/&lt;base&gt;." in show()[parts.waiting]
