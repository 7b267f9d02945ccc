"""Home: the first visit, what runs and what is next, and the rehearsal that a double click starts once."""

from __future__ import annotations

import threading
import time

import gradio as gr
import pytest

from app import rehearsal, starter
from app.pages import home
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from storage import datasets, jobs, models
from storage.states import State


def version(name="tickets"):
    return datasets.NewVersion(
        name=name, sha256="a" * 64, path="/rows.parquet", row_kind="conversation", format="messages", mapping={}, rows=300, usable_rows=300,
        problems=[], problem_count=0, warnings=[], statistics={}, source_name=f"{name}.jsonl", policy="keep_usable", bytes=10,
    )  # fmt: skip


def ready(ui):
    with ui.store.write() as session:
        models.add(
            session,
            models.NewModel(
                name="starter", path="/m", source="starter", licence="Apache-2.0", parameters=1, bytes=1, facts={}
            ),
        )
        datasets.add_version(session, version())


def draw(ui):
    return home.refresh(ui, "")[0]


def test_the_first_visit_shows_three_steps(ui):
    shown = draw(ui)
    assert shown.count("<li>") == 3 and "/data" in shown and "/train" in shown


def test_what_runs_waits_and_ended_is_shown_with_its_place(ui, runs):
    done = runs.submit("done")
    claim = runs.claim()
    runs.save(claim, 1, 0.5)
    runs.settle(claim, State.SUCCEEDED)
    going, waiting = runs.submit("going"), runs.submit("waiting")
    runs.train(runs.claim(), 2, total=4)
    with ui.store.write() as session:
        jobs.submit(session, kind="import", name="rows", spec={}, lane="cpu")
    shown = draw(ui)
    order = [shown.index(f"/runs?run={job.id}") for job in (going, waiting)]
    assert order == sorted(order)
    assert "step" not in shown or "left" in shown
    assert "import" in shown and f"/chat?target={done.id}" in shown


def test_what_is_next_follows_from_what_is_there(ui, runs):
    runs.submit()
    assert "Add a dataset" in draw(ui)
    ready(ui)
    assert "start a run" in draw(ui)


def test_an_unchanged_store_sends_nothing(ui, runs):
    runs.submit()
    _, digest = home.refresh(ui, "")
    assert home.refresh(ui, digest) == gr.skip()


# --- the rehearsal -------------------------------------------------------------------------------------------------


def test_the_rehearsal_is_a_valid_spec_on_the_sample(ui):
    ready(ui)
    *_, last = rehearsal.begin(ui)
    spec = parse(last.job.spec)
    assert (spec.data.dataset, spec.data.version, spec.model.id) == ("tickets", 1, "starter")
    assert spec.training.max_steps <= 100


def test_a_double_click_makes_one_run(ui):
    ready(ui)
    found = []
    threads = [threading.Thread(target=lambda: found.extend(rehearsal.begin(ui))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({progress.job.id for progress in found}) == 1


def test_a_second_rehearsal_begins_after_the_first_ended(ui, runs):
    ready(ui)
    *_, first = rehearsal.begin(ui)
    runs.settle(runs.claim(), State.SUCCEEDED)
    *_, second = rehearsal.begin(ui)
    assert first.job.id != second.job.id


def test_what_is_missing_is_brought_in_first(ui, monkeypatch):
    monkeypatch.setattr(rehearsal, "POLL_S", 0.01)
    done = threading.Event()

    def work() -> None:
        """Does what the worker's children would."""
        while not done.is_set():
            with ui.store.read() as session:
                waiting = jobs.listing(session, states=[State.QUEUED])
            for job in waiting:
                if job.kind == "train":
                    return
                with ui.store.write() as session:
                    claim, _ = jobs.claim(session, jobs.Holder("w", "h", "b"), lanes=["gpu", "cpu"], lease_s=60)
                    if job.kind == "add_model":
                        models.add(
                            session,
                            models.NewModel(
                                name="starter",
                                path="/m",
                                source="starter",
                                licence=None,
                                parameters=1,
                                bytes=1,
                                facts={},
                            ),
                        )
                    else:
                        datasets.add_version(session, version())
                    jobs.settle(session, claim, jobs.Settlement(State.SUCCEEDED, reason="done", values={}))
            time.sleep(0.01)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        codes = [progress.code for progress in rehearsal.begin(ui)]
    finally:
        done.set()
        worker.join()
    assert codes == ["model", "data", "queued"]


def test_a_preparation_that_fails_is_said(ui, runs, monkeypatch):
    monkeypatch.setattr(rehearsal, "POLL_S", 0.01)
    with ui.store.write() as session:
        job = starter.ask_for(session)
        jobs.cancel(session, job.id)
        monkeypatch.setattr(starter, "ask_for", lambda session: job)
    shown = list(home.rehearse(ui))
    assert "Preparing starter failed" in shown[-1]


def test_without_a_worker_the_wait_ends_with_advice(ui, monkeypatch):
    monkeypatch.setattr(rehearsal, "PATIENCE_S", 0.05)
    monkeypatch.setattr(rehearsal, "POLL_S", 0.01)
    with pytest.raises(ProblemError, match="rehearsal_waits"):
        list(rehearsal.begin(ui))


def test_the_button_leads_to_the_run(ui):
    ready(ui)
    assert "data-go" in list(home.rehearse(ui))[-1]
