"""Why a job failed and what helps: categories, remedies, and the cards that offer them."""

from __future__ import annotations

import pytest

from app import draft, failure, failurecard, filling, trainform
from app.failure import category_of, halved, recomputed, shortened, slowed
from storage import jobs
from storage.errors import Conflict
from storage.states import State


@pytest.mark.parametrize(
    ("reason", "category"),
    [
        ("bad_data", "data"),
        ("data_not_there", "data"),
        ("file_no_room", "data"),
        ("model_unavailable", "model"),
        ("hub_refused", "model"),
        ("out_of_memory", "memory"),
        ("disk_full", "disk"),
        ("checkpoints_broken", "disk"),
        ("resume_differs", "disk"),
        ("device_fault", "machine"),
        ("killed", "machine"),
        ("lost", "machine"),
        ("stalled", "machine"),
        ("bad_spec", "settings"),
        ("spec_not_a_choice", "settings"),
        ("non_finite", "diverged"),
        ("diverged", "diverged"),
        ("internal_error", "internal"),
        ("something_new", "internal"),
        (None, "internal"),
    ],
)
def test_every_reason_has_a_category(reason, category):
    assert category_of(reason) == category


@pytest.mark.parametrize(
    ("change", "spec", "expected"),
    [
        (halved, {"training": {"batch_size": 4, "gradient_accumulation": 2}}, (2, 4)),
        (halved, {"training": {"batch_size": 5, "gradient_accumulation": 1}}, (2, 3)),
        (halved, {"training": {"batch_size": 1}}, None),
        (recomputed, {"training": {}}, (True,)),
        (recomputed, {"training": {"gradient_checkpointing": True}}, None),
        (shortened, {"data": {"max_length": 1024}, "training": {"batch_size": 1, "gradient_checkpointing": True}}, (512,)),
        (shortened, {"data": {"max_length": 1024}, "training": {"batch_size": 2, "gradient_checkpointing": True}}, None),
        (shortened, {"data": {"max_length": 200}, "training": {"batch_size": 1, "gradient_checkpointing": True}}, None),
        (slowed, {"training": {"learning_rate": 2e-4}}, (2e-5,)),
        (slowed, {"training": {}}, None),
    ],
)  # fmt: skip
def test_a_remedy_changes_what_stopped_the_run(change, spec, expected):
    assert tuple(change(spec).values()) == (expected or ())


def fail(runs, reason, values=None, **changes):
    job = runs.submit("bad", **changes)
    runs.settle(runs.claim(), State.FAILED, reason, values=values or {})
    return job


def found(ui, job):
    with ui.store.read() as session:
        return jobs.get(session, job.id), jobs.attempts(session, job.id)


@pytest.mark.parametrize(
    ("reason", "names"),
    [
        ("out_of_memory", ["halve", "recompute"]),
        ("non_finite", ["slow"]),
        ("diverged", ["slow"]),
        ("disk_full", ["disk", "retry"]),
        ("killed", ["retry"]),
        ("lost", ["retry"]),
        ("stalled", ["retry"]),
        ("checkpoints_broken", ["from_start"]),
        ("resume_differs", ["from_start"]),
        ("device_fault", ["retry"]),
        ("model_unavailable", ["models", "retry"]),
        ("bad_data", ["data"]),
        ("bad_spec", ["change"]),
        ("internal_error", ["retry"]),
        ("something_new", ["retry"]),
    ],
)
def test_every_failure_offers_what_helps(ui, runs, reason, names):
    job = fail(runs, reason, training__batch_size=8, training__gradient_accumulation=1)
    assert [one.name for one in failure.remedies(*found(ui, job))] == names
    card = failurecard.failed(ui, *found(ui, job))
    for name in names:
        assert ui.t(f"remedy.{name}") in card


def test_a_remedy_fills_the_form_with_the_changes_marked(ui, runs, shelf):
    shelf.dataset()
    shelf.model()
    job = fail(runs, "out_of_memory", training__batch_size=8, training__gradient_accumulation=1)
    with ui.store.write() as session:
        assert failure.apply(session, "halve", job.id) == "/train"
    with ui.store.read() as session:
        world = filling.look_around(session)
        filled = filling.filled(session, world)
        assert jobs.get(session, job.id).state == State.FAILED, "the failed run stays as it is"
    assert filled.values["training.batch_size"] == 4 and filled.values["training.gradient_accumulation"] == 2
    assert filled.mended.before == {"training.batch_size": 8, "training.gradient_accumulation": 1}
    said = trainform._mending(filled, ui.t)
    assert "Batch size: 8 → 4" in said and f"/runs?run={job.id}" in said
    settings = trainform.settings()["training.batch_size"]
    assert "it was 8" in trainform.why(settings, filled, ui.t)


def test_the_mark_goes_with_the_next_clone_and_with_a_reset(ui, runs):
    job = fail(runs, "non_finite")
    for forget in (lambda session: draft.fill_from(session, job.spec), draft.reset):
        with ui.store.write() as session:
            failure.apply(session, "slow", job.id)
            assert draft.mended(session) is not None
            forget(session)
            assert draft.mended(session) is None


def test_a_retry_queues_the_same_run_again(ui, runs):
    job = fail(runs, "stalled", {"seconds": 700})
    with ui.store.write() as session:
        assert failure.apply(session, "retry", job.id) is None
        assert jobs.get(session, job.id).state == State.QUEUED


@pytest.mark.parametrize("reason", ["checkpoints_broken", "resume_differs"])
def test_a_run_that_cannot_go_on_from_its_checkpoints_begins_again(ui, runs, monkeypatch, reason):
    job = fail(runs, reason)
    asked = []
    monkeypatch.setattr(jobs, "retry", lambda session, job_id, **how: asked.append((job_id, how)))
    with ui.store.write() as session:
        failure.apply(session, "from_start", job.id)
    assert asked == [(job.id, {"from_start": True})]


@pytest.mark.parametrize("name", ["slow", "nothing", "halve"])
def test_a_remedy_that_no_longer_helps_is_refused(ui, runs, name):
    job = fail(runs, "killed")
    with ui.store.write() as session, pytest.raises(Conflict):
        failure.apply(session, name, job.id)


def test_a_run_that_was_retried_meanwhile_is_left_alone(ui, runs):
    job = fail(runs, "killed")
    with ui.store.write() as session:
        jobs.retry(session, job.id)
        with pytest.raises(Conflict):
            failure.apply(session, "retry", job.id)


def test_what_the_worker_advised_goes_before_what_the_page_knows(ui, runs):
    values = {"changes": {"model.quantization": "nf4", "no.such": 1}}
    job = fail(runs, "out_of_memory", values)
    remedies = failure.remedies(*found(ui, job))
    assert [one.name for one in remedies] == ["advised"]
    assert remedies[0].changes(job.spec) == {"model.quantization": "nf4"}


def test_a_remedy_goes_on_from_what_the_last_attempt_really_did(ui, runs):
    job = fail(runs, "out_of_memory", training__batch_size=8, training__gradient_accumulation=1)
    with ui.store.write() as session:
        overrides = '{"batch_size": 2, "gradient_accumulation": 4}'
        session.connection().exec_driver_sql(f"UPDATE attempt SET overrides = '{overrides}'")
    _, attempts = found(ui, job)
    ran = failure.tried(job.spec, attempts)
    assert halved(ran) == {"training.batch_size": 1, "training.gradient_accumulation": 8}
    assert "takes 2 rows at a time and 4 passes" in failurecard.overrides(ui, attempts)


def test_the_card_shows_category_reason_fix_and_the_last_lines(ui, runs):
    job = fail(runs, "non_finite", {"name": "loss", "step": 7})
    ui.home.log(job.id).write_text("".join(f"line {n} <b>\n" for n in range(40)))
    card = failurecard.failed(ui, *found(ui, job))
    for word in (">diverged<", "was not a number at step 7", "ten times smaller", "line 39 &lt;b&gt;"):
        assert word in card, word
    assert "line 20 " not in card and "<b>" not in card
