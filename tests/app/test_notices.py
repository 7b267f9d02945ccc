"""What the rail tells of ends, and the webhook on the Settings page."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import hooking, live
from engine.specs import outside
from storage import jobs, notices, settings
from storage.states import State


@pytest.fixture
def client(ui):
    return TestClient(Starlette(routes=live.routes(ui.store)))


def told(client, language="en"):
    return client.get("/live/rail", headers={"cookie": f"atelier_language={language}"}).json()["ended"]


def test_the_rail_tells_each_end_with_a_key_a_tone_and_a_link(client, runs):
    assert told(client) == []
    runs.submit("good")
    runs.settle(runs.claim(), State.SUCCEEDED)
    runs.submit("<b>bad</b>")
    runs.settle(runs.claim(), State.FAILED, "non_finite", values={"name": "loss", "step": 3})
    good, bad = told(client)
    assert good == {"key": "1.1", "name": "good", "text": "done", "tone": "good", "href": "/runs?run=1"}
    assert bad["tone"] == "bad" and bad["text"] == "stopped: not a number" and bad["name"] == "<b>bad</b>"
    assert told(client, "zh")[0]["text"] != "done"


def test_a_second_end_of_the_same_run_has_another_key(client, ui, runs):
    job = runs.submit()
    runs.settle(runs.claim(), State.FAILED, "killed")
    first = told(client)
    with ui.store.write() as session:
        jobs.retry(session, job.id)
    assert told(client) == []
    runs.settle(runs.claim(), State.SUCCEEDED)
    assert first[0]["key"] != told(client)[0]["key"]


def test_old_ends_cancelled_runs_and_small_jobs_are_not_told(client, ui, runs):
    runs.submit("old")
    runs.settle(runs.claim(), State.SUCCEEDED)
    with ui.store.write() as session:
        session.connection().exec_driver_sql("UPDATE job SET finished_at = finished_at - 901")
        cancelled = jobs.submit(session, kind="train", name="x", spec={}, lane="gpu")
        jobs.cancel(session, cancelled.id)
        light = jobs.submit(session, kind="import", name="x", spec={}, lane="gpu")
    runs.settle(runs.claim(), State.SUCCEEDED)
    assert light.id and told(client) == []


# --- the Settings page ---------------------------------------------------------------------------------------------


def kept(ui):
    with ui.store.read() as session:
        return settings.get(session, notices.WEBHOOK)


def test_without_a_list_no_address_is_taken(ui, monkeypatch):
    monkeypatch.delenv(outside.WEBHOOK_ALLOW, raising=False)
    assert "ATELIER_WEBHOOK_ALLOW" in hooking.shown(ui)[0]
    assert "not on the list" in hooking.save(ui, "https://hooks.example.com/x")[0]
    assert kept(ui) is None


def test_an_address_on_the_list_is_kept_and_removed(ui, monkeypatch):
    monkeypatch.setenv(outside.WEBHOOK_ALLOW, "hooks.example.com")
    state, field, remove = hooking.save(ui, " https://hooks.example.com/x ")
    assert "Saved" in state and field == "https://hooks.example.com/x" and remove["visible"]
    assert kept(ui) == "https://hooks.example.com/x"
    assert hooking.remove(ui)[1] == "" and kept(ui) is None


@pytest.mark.parametrize(
    "url", ["http://hooks.example.com/", "https://me:secret@hooks.example.com/", "file:///etc/passwd"]
)
def test_an_address_that_will_not_do_is_refused_and_what_was_there_stays(ui, monkeypatch, url):
    monkeypatch.setenv(outside.WEBHOOK_ALLOW, "hooks.example.com")
    hooking.save(ui, "https://hooks.example.com/x")
    shown = hooking.save(ui, url)[0]
    assert "This was not done" in shown and "secret" not in shown
    assert kept(ui) == "https://hooks.example.com/x"


def test_a_failure_to_tell_is_shown(ui, runs):
    runs.submit()
    job = runs.settle(runs.claim(), State.SUCCEEDED)
    with ui.store.write() as session:
        notices.failed(session, job, {"error": "HTTP 500", "tries": 2})
    assert "HTTP 500" in hooking.shown(ui)[0]
    with ui.store.write() as session:
        notices.told(session, job, {})
    assert "HTTP 500" not in hooking.shown(ui)[0] and "was told at" in hooking.shown(ui)[0]
