"""What a person reads of a run that met too little memory, a full disk, a hang or broken checkpoints."""

from __future__ import annotations

import pytest

from app import joblog
from app.commands import exits
from app.commands.jobs import document
from app.language import text
from storage import jobs
from storage.states import State

SMALLER = {"batch_size": 2, "gradient_accumulation": 8}
FULL = {"needed_bytes": 1_800_000_000, "free_bytes": 12_000_000}


def test_a_smaller_batch_is_told_in_the_log_and_in_the_document(ui, runs):
    runs.submit()
    runs.settle(runs.claim(), "requeue", "out_of_memory", values=SMALLER, counts=False)
    second = runs.claim()
    with ui.store.write() as session:
        jobs.override(session, second, SMALLER)
    with ui.store.read() as session:
        told = [joblog.sentence(ui.t, one) for one in jobs.events(session, second.job_id)]
        said = document(session, jobs.get(session, second.job_id))
    assert any("this attempt trains 2 rows at a time and sums up 8 passes" in one for one in told)
    assert [one["overrides"] for one in said["attempts"]] == [None, SMALLER]
    assert said["attempts"][0]["outcome"] == "out_of_memory"


def test_a_run_that_waits_for_room_says_how_much_and_ends_a_command_that_waits(ui, runs):
    runs.submit()
    paused = runs.settle(runs.claim(), "requeue", "disk_full", values=FULL, counts=False, run_after_s=30.0)
    assert "1.8 GB are needed, 12.0 MB were free" in ui.reason(paused.reason, paused.values)
    with ui.store.read() as session:
        assert exits.of_job(paused, jobs.attempts(session, paused.id)) is exits.Code.DISK_FULL
        assert "1.8 GB are needed" in joblog.sentence(ui.t, jobs.events(session, paused.id)[-1])


@pytest.mark.parametrize(
    ("reason", "values", "what", "fix"),
    [
        ("out_of_memory", {"remedy": "memory_rows", "length": 256}, "The memory was not enough.", "Cut rows at 256 tokens"),
        ("out_of_memory", {"remedy": "memory_elsewhere"}, "The memory was not enough.", "Unload other models"),
        ("out_of_memory", {}, "The memory was not enough.", "half the batch size"),
        ("stalled", {"seconds": 612}, "did not move for 612 seconds", "Look at the stacks"),
        ("checkpoints_broken", {"steps": "3, 6"}, "(steps 3, 6)", "begin at step 0"),
        ("device_fault", {"error": "CUDA error: x"}, "The GPU met a fault of its own (CUDA error: x)", "nvidia-smi"),
        ("resume_differs", {"step": 6, "what": "weights"}, "checkpoint of step 6", "begin at step 0"),
    ],
)  # fmt: skip
def test_a_failure_says_what_and_what_to_do_in_both_languages(reason, values, what, fix):
    said = text("en").failure(reason, values)
    assert what in said and fix in said
    said = text("zh").failure(reason, values)
    assert "{" not in said and len(said) > len(text("zh").reason(reason, values))


def test_a_command_that_waited_says_what_to_do(ui, runs):
    from app.commands.shell import Shell
    from app.commands.waiting import why

    runs.submit()
    failed = runs.settle(runs.claim(), State.FAILED, "out_of_memory", values={"remedy": "memory_checkpointing"})
    assert "gradient checkpointing" in why(Shell(ui.home, ui.store, ui.t, json=False), failed)
