"""The Check view: findings with the way to their rows, and versions made with one click."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from app import doctorview
from app.pages import data
from app.ui import Ui
from engine.specs.problem import ProblemError
from engine.specs.versions import DeriveSpec
from storage import jobs
from storage.jobs import Holder, Job, Settlement
from storage.states import State

FOUND = [
    {"key": "note", "code": "few_rows", "values": {"rows": 3}, "severity": "note", "count": 1, "removable": 0, "rows": [0]},
    {"key": "twice", "code": "duplicates", "values": {"rows": 20}, "severity": "warning", "count": 20, "removable": 19, "rows": list(range(20))},
]  # fmt: skip


@pytest.fixture
def doctor(ui: Ui) -> doctorview.Doctor:
    with gr.Blocks():
        return doctorview.build(ui.t)


def examined(ui: Ui, version: Any, findings: list[dict[str, Any]] = FOUND) -> Job:
    doctorview.examine(ui, version.id)
    with ui.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
        assert taken is not None
        result = {"key": "0123456789abcdef", "rows": 12, "findings": findings}
        return jobs.settle(session, taken[0], Settlement(State.SUCCEEDED, reason="done", result=result))


def derived(ui: Ui) -> list[DeriveSpec]:
    with ui.store.read() as session:
        return [DeriveSpec(**job.spec) for job in jobs.listing(session, kinds=["derive"])]


def test_a_dataset_that_was_not_checked_offers_that_alone(ui: Ui, doctor: Any, shelf: Any) -> None:
    one = shelf.dataset()
    shown = doctorview.show(ui, doctor, one, "check")
    assert (
        shown[doctor.examine]["visible"] and not shown[doctor.found]["visible"] and not shown[doctor.clean]["visible"]
    )
    assert ui.t("doctor.none_title") in doctorview.body(ui, one)[0]
    assert not doctorview.show(ui, doctor, one, "rows")[doctor.box]["visible"]


def test_two_clicks_make_one_examination(ui: Ui, shelf: Any) -> None:
    one = shelf.dataset()
    for _ in range(2):
        doctorview.examine(ui, one.id)
    with ui.store.read() as session:
        (job,) = jobs.listing(session, kinds=["examine"])
    assert doctorview.body(ui, one)[1] == job.id


def test_findings_stand_worst_first_with_the_way_to_their_rows(ui: Ui, doctor: Any, shelf: Any) -> None:
    one = shelf.dataset()
    examined(ui, one)
    shown, still = doctorview.body(ui, one)
    assert still is None and shown.index("20 rows") < shown.index("3 rows")
    assert "row=1&" in shown or 'row=1"' in shown
    assert ui.t("doctor.more", n="12") in shown
    tools = doctorview.show(ui, doctor, one, "check")
    assert [key for _, key in tools[doctor.found]["choices"]] == ["twice"] == tools[doctor.found]["value"]


def test_a_healthy_dataset_is_called_that(ui: Ui, shelf: Any) -> None:
    one = shelf.dataset()
    examined(ui, one, [])
    assert ui.t("doctor.healthy", rows="12", n=12) in doctorview.body(ui, one)[0]


def test_a_version_without_what_was_found_is_ordered(ui: Ui, shelf: Any) -> None:
    one = shelf.dataset()
    with pytest.raises(ProblemError):
        doctorview.clean(ui, one.id, ["twice"])
    examined(ui, one)
    with pytest.raises(ProblemError):
        doctorview.clean(ui, one.id, [])
    doctorview.clean(ui, one.id, ["twice"])
    (spec,) = derived(ui)
    assert (spec.name, spec.sources[0].sha256, spec.operation.kind) == (one.name, one.sha256, "without")


def test_a_learning_curve_is_samples_that_are_smaller_than_the_whole(ui: Ui, shelf: Any) -> None:
    doctorview.learning_curve(ui, shelf.dataset(rows=250).id)
    assert sorted(spec.name for spec in derived(ui)) == ["tickets (100)", "tickets (200)", "tickets (50)"]
    with pytest.raises(ProblemError):
        doctorview.learning_curve(ui, shelf.dataset("small", rows=20).id)


def test_a_learning_curve_counts_the_training_rows_alone(ui: Ui, shelf: Any) -> None:
    one = shelf.dataset(rows=150, statistics={"splits": {"train": 80, "test": 70}})
    doctorview.learning_curve(ui, one.id)
    assert [spec.name for spec in derived(ui)] == ["tickets (50)"]


def test_rows_are_held_out_by_a_share_that_is_one(ui: Ui, shelf: Any) -> None:
    one = shelf.dataset()
    for wrong in (0, None, 100):
        with pytest.raises(ProblemError):
            doctorview.divide(ui, one.id, wrong)
    for by, told in doctorview.HOLD_BY.items():
        doctorview.divide(ui, one.id, 20, by)
        with ui.store.read() as session:
            operation = jobs.listing(session, kinds=["derive"])[0].spec["operation"]
        assert told.items() <= operation.items() and operation["share"] == 0.2
    doctorview.divide(ui, one.id, 20)
    assert derived(ui)[0].operation.model_dump()["share"] == 0.2


def test_what_cannot_be_ordered_is_said_on_the_page(ui: Ui, shelf: Any) -> None:
    one = shelf.dataset()
    assert ui.t("refused") in data.ordered(ui, lambda number: doctorview.divide(ui, number, 0), (one.name, one.id))
    assert ui.t("refused") in data.ordered(ui, lambda number: doctorview.examine(ui, number), (one.name, 999))
    assert data.ordered(ui, lambda number: doctorview.examine(ui, number), None) == ""


def test_an_examination_that_failed_does_not_hide_the_findings_of_the_one_before(
    ui: Ui, doctor: Any, shelf: Any
) -> None:
    one = shelf.dataset()
    examined(ui, one)
    doctorview.examine(ui, one.id)
    with ui.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
        assert taken is not None
        jobs.settle(session, taken[0], Settlement(State.FAILED, reason="internal_error"))
    shown, _ = doctorview.body(ui, one)
    assert ui.reason("internal_error", {}) in shown and "20 rows" in shown
    assert doctorview.show(ui, doctor, one, "check")[doctor.clean]["visible"]
    doctorview.clean(ui, one.id, ["twice"])
    assert len(derived(ui)) == 1
