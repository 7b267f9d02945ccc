"""What a person reads of a run that met too little memory, a full disk, a hang or broken checkpoints."""

from __future__ import annotations

import pytest

from app import joblog, run_head, run_list
from app.commands import exits
from app.commands.jobs import document
from app.language import text
from storage import jobs
from storage.states import State

SMALLER = {"batch_size": 2, "gradient_accumulation": 8}
FULL = {"needed_bytes": 1_800_000_000, "free_bytes": 12_000_000}


def head_of(ui, job_id):
    with ui.store.read() as session:
        return run_head.remarks(ui, run_head.standing(session, job_id))


def test_a_smaller_batch_is_told_on_the_page_in_the_log_and_in_the_document(ui, runs):
    runs.submit()
    first = runs.claim()
    runs.settle(first, "requeue", "out_of_memory", values=SMALLER, counts=False)
    second = runs.claim()
    with ui.store.write() as session:
        jobs.override(session, second, SMALLER)
    assert "It goes on with 2 rows at a time and 8 passes a step" in head_of(ui, second.job_id)
    with ui.store.read() as session:
        told = [joblog.sentence(ui.t, one) for one in jobs.events(session, second.job_id)]
        said = document(session, jobs.get(session, second.job_id))
    assert any("this attempt trains 2 rows at a time and sums up 8 passes" in one for one in told)
    assert [one["overrides"] for one in said["attempts"]] == [None, SMALLER]
    assert said["attempts"][0]["outcome"] == "out_of_memory"


def test_a_run_that_waits_for_room_says_how_much_and_ends_a_command_that_waits(ui, runs):
    runs.submit()
    paused = runs.settle(runs.claim(), "requeue", "disk_full", values=FULL, counts=False, run_after_s=30.0)
    assert run_list.state_words(ui.t, paused, 1, 0.0) == ("waits for room on the disk", "waiting")
    assert "1.8 GB are needed, 12.0 MB were free" in head_of(ui, paused.id)
    with ui.store.read() as session:
        assert exits.of_job(paused, jobs.attempts(session, paused.id)) is exits.Code.DISK_FULL


@pytest.mark.parametrize(
    ("reason", "values", "what", "fix"),
    [
        ("out_of_memory", {"remedy": "memory_rows", "length": 256}, "The memory was not enough.", "Cut rows at 256 tokens"),
        ("out_of_memory", {"remedy": "memory_elsewhere"}, "The memory was not enough.", "Unload other models"),
        ("out_of_memory", {}, "The memory was not enough.", "half the batch size"),
        ("stalled", {"seconds": 612}, "did not move for 612 seconds", "Look at the stacks"),
        ("checkpoints_broken", {"steps": "3, 6"}, "(steps 3, 6)", "begin at step 0"),
        ("resume_differs", {"step": 6, "what": "weights"}, "checkpoint of step 6", "begin at step 0"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_failure_says_what_and_what_to_do(ui, runs, reason, values, what, fix, language):
    runs.submit()
    failed = runs.settle(runs.claim(), State.FAILED, reason, values=values, exit_code=70)
    t = text(language)
    said = t.failure(reason, values)
    assert "{" not in said and len(said) > len(t.reason(reason, values))
    if language == "en":
        assert what in head_of(ui, failed.id) and fix in head_of(ui, failed.id)
