"""The form that merges: it asks only what the way of merging needs, and its merges are listed."""

from __future__ import annotations

from typing import Any

import gradio as gr
import pytest

from app import mergeform
from app.ui import Ui
from engine.merging import MERGES
from storage import jobs
from storage.jobs import Holder, Settlement
from storage.states import State
from tests.app.conftest import Runs, Shelf


@pytest.fixture
def parts(ui: Ui, shelf: Shelf, runs: Runs) -> mergeform.Parts:
    shelf.model()
    shelf.dataset("tickets")
    for name in ("one", "two"):
        runs.submit(name)
        claim = runs.claim()
        runs.save(claim, 5)
        runs.settle(claim, State.SUCCEEDED)
    with gr.Blocks():
        return mergeform.lay_out(ui)


def given(parts: mergeform.Parts, targets: list[str], kind: str, weights: str = "", **own: Any) -> tuple[Any, ...]:
    settings = {**{name: getattr(one, "value", None) for name, one in parts.own.items()}, **own}
    return (targets, kind, weights, "auto", "", "", " both ", *settings.values())


def merging(ui: Ui) -> list[jobs.Job]:
    with ui.store.read() as session:
        return jobs.listing(session, kinds=["merge"])


@pytest.mark.parametrize("kind", MERGES)
def test_each_way_of_merging_shows_its_own_settings_only(ui: Ui, parts: mergeform.Parts, kind: str) -> None:
    found = mergeform.choose(ui, parts, kind)
    visible = {name for name, one in parts.own.items() if found[one]["visible"]}
    assert visible == set(MERGES[kind].Spec.model_fields) - {"kind"}
    assert found[parts.method]["info"] == ui.t(f"merge.method.{kind}.when")


def test_checkpoints_and_models_are_offered_but_no_quantised_form_of_one(ui: Ui, parts: mergeform.Parts) -> None:
    choices = [value for _, value in mergeform.open_form(ui, parts, None)[parts.targets]["choices"]]
    assert set(choices) == {"1@5", "2@5", "base:starter"}


def test_a_filled_form_queues_one_merge(ui: Ui, parts: mergeform.Parts) -> None:
    filled = given(parts, ["1@5", "2@5"], "dare", "0.7, 0.3", density=0.25, then="ties")
    found = mergeform.start(ui, parts, "", *filled)
    mergeform.start(ui, parts, "", *filled)
    (job,) = merging(ui)
    assert job.spec["method"] == {"kind": "dare", "density": 0.25, "then": "ties", "scale": 1.0}
    assert [one["weight"] for one in job.spec["sources"]] == [0.7, 0.3]
    assert (job.name, job.spec["form"]) == ("both", "weights")
    assert "DARE · one, step 5 × 0.700 + two, step 5 × 0.300" in found[parts.listed]


def test_a_form_that_cannot_work_says_why(ui: Ui, parts: mergeform.Parts) -> None:
    for filled in (given(parts, ["1@5"], "linear"), given(parts, ["1@5", "2@5"], "linear", "1,2,3")):
        assert "at-bad" in mergeform.start(ui, parts, "", *filled)[parts.said]
    for filled, label in (
        (given(parts, ["1@5"], "linear"), "What is merged"),
        (given(parts, ["1@5", "2@5"], "dare", density=7.0), "Density"),
    ):
        assert f'<span class="at-where">{label}</span>' in mergeform.start(ui, parts, "", *filled)[parts.said]
    assert merging(ui) == []


def test_the_list_says_how_each_merge_stands_and_what_it_has_become(ui: Ui, parts: mergeform.Parts, runs: Runs) -> None:
    mergeform.start(ui, parts, "", *given(parts, ["1@5", "2@5"], "linear"))
    (job,) = merging(ui)
    seen = mergeform.refresh(ui, parts, "")[parts.seen]
    assert mergeform.refresh(ui, parts, seen) == gr.skip()
    with ui.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["gpu"], lease_s=60)
        assert taken is not None
    runs.save(taken[0], 5)
    with ui.store.write() as session:
        result = {"form": "adapter", "rank": 32, "kept": 1.0}
        jobs.settle(session, taken[0], Settlement(State.SUCCEEDED, reason="done", result=result))
    listed = mergeform.refresh(ui, parts, seen)[parts.listed]
    assert "rank 32" in listed and f"/chat?target={job.id}@5" in listed and f"/export?target={job.id}@5" in listed
    mergeform.obey(ui, parts, f"merge_delete:{job.id}:1", "")
    assert merging(ui) == []


def test_a_merge_that_waits_is_cancelled_and_retried(ui: Ui, parts: mergeform.Parts) -> None:
    mergeform.start(ui, parts, "", *given(parts, ["1@5", "2@5"], "linear"))
    (job,) = merging(ui)
    refused = mergeform.obey(ui, parts, f"merge_delete:{job.id}:1", "")
    assert "at-bad" in refused[parts.said]
    mergeform.obey(ui, parts, f"merge_cancel:{job.id}:2", "")
    assert merging(ui)[0].state == State.CANCELLED
    mergeform.obey(ui, parts, f"merge_retry:{job.id}:3", "")
    assert merging(ui)[0].state == State.QUEUED
