"""The Mix view: what the mixture will hold is what the job will make, and what cannot be mixed is said plainly."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
import pytest

from app import mixview
from app.mixview import Mixing
from app.pages import data
from app.ui import Ui
from engine.specs.mixture import planned
from engine.specs.problem import ProblemError
from engine.specs.versions import DeriveSpec
from storage import datasets, jobs
from storage.datasets import Version


@pytest.fixture
def mixing(ui: Ui) -> Mixing:
    with gr.Blocks():
        return mixview.build(ui.t)


def splits(train: int, test: int = 0) -> dict[str, Any]:
    return {"statistics": {"splits": {"train": train, "test": test}}}


@pytest.fixture
def own(shelf: Any) -> Version:
    return shelf.dataset("tickets", rows=100, **splits(80, 20))


@pytest.fixture
def general(shelf: Any) -> Version:
    return shelf.dataset("general", rows=4000, **splits(4000))


def drawn(version: Version) -> tuple[str, int]:
    return version.name, version.id


def settings(others: list[Version], *weights: float, rows: int | None = None, temperature: float = 1.0) -> list[Any]:
    padded = [*weights, *[None] * (mixview.MOST_OTHERS + 1 - len(weights))]
    return [[one.id for one in others], temperature, rows, *padded]


def cells(*numbers: str) -> str:
    return "".join(f'<td><span class="at-whole">{one}</span></td>' for one in numbers)


def derived(ui: Ui) -> list[DeriveSpec]:
    with ui.store.read() as session:
        return [DeriveSpec(**job.spec) for job in jobs.listing(session, kinds=["derive"])]


def test_only_datasets_of_the_same_kind_are_offered_and_the_others_are_counted(
    ui: Ui, mixing: Mixing, shelf: Any, own: Version, general: Version
) -> None:
    shelf.dataset("pairs", row_kind="preference")
    shown = mixview.show(ui, mixing, own, "mix")
    assert shown[mixing.others]["choices"] == [("general · version 1 · 4,000 training rows", general.id)]
    assert shown[mixing.box]["visible"] and not mixview.show(ui, mixing, own, "rows")[mixing.box]["visible"]
    text, pending = mixview.body(ui, own)
    assert pending is None and ui.t("mix.forgetting") in text
    assert ui.t("mix.unlike", n="1", kind="conversations") in text.replace("&#x27;", "'")


def test_a_dataset_without_another_of_its_kind_says_what_is_missing(ui: Ui, mixing: Mixing, own: Version) -> None:
    assert not mixview.show(ui, mixing, own, "mix")[mixing.box]["visible"]
    assert ui.t("mix.none_title") in mixview.body(ui, own)[0]


def test_a_chosen_source_gets_the_weight_by_which_all_rows_come_once(
    ui: Ui, mixing: Mixing, own: Version, general: Version
) -> None:
    shown = mixview.choose(ui, mixing, drawn(own), [general.id])
    assert [shown[one]["value"] for one in mixing.weights[:3]] == [80, 4000, None]
    assert shown[mixing.weights[1]]["label"] == "Weight of 2 · general" and shown[mixing.name] == "tickets + general"
    assert cells("4,000", "4,000", "98 %", "1 ×", "0") in shown[mixing.told]
    assert mixview.choose(ui, mixing, drawn(own), [])[mixing.told] == ""
    assert mixview.choose(ui, mixing, None, [])[mixing.told] == ""


def test_one_click_proposes_a_fifth_of_general_data_and_every_own_row_once(
    ui: Ui, mixing: Mixing, shelf: Any, own: Version, general: Version
) -> None:
    code = shelf.dataset("code", rows=1000, **splits(1000))
    shown = mixview.propose(ui, mixing, drawn(own), *settings([general, code], 1, 1, 1))
    weights = [shown[one]["value"] for one in mixing.weights[:3]]
    assert weights == [80, 16, 4] and shown[mixing.rows] == 100
    assert cells("80", "80", "80 %", "1 ×", "20") in shown[mixing.told]


def test_what_is_shown_before_is_what_the_engine_reckons(ui: Ui, own: Version, general: Version) -> None:
    told = settings([general], 3, 1, rows=500, temperature=2)
    shown = mixview.reckon(ui, drawn(own), *told)
    mixview.make(ui, own.id, "", *told)
    (spec,) = derived(ui)
    assert spec.name == "tickets + general" and [one.sha256 for one in spec.sources] == [own.sha256, general.sha256]
    first, second = planned(spec.operation, [80, 4000])  # type: ignore[arg-type]
    assert (first, second) == (317, 183)
    assert cells("80", str(first), "63 %", "4.0 ×") in shown and cells(str(second)) in shown


def test_a_proposal_or_a_mixture_without_a_second_dataset_is_refused(ui: Ui, mixing: Mixing, own: Version) -> None:
    refused = ui.t("problem.mix_nothing_chosen.what")
    assert refused in mixview.propose(ui, mixing, drawn(own), *settings([]))[mixing.told]
    assert refused in data.ordered(ui, partial(mixview.make, ui), drawn(own), "x", *settings([]))
    assert derived(ui) == []


@pytest.mark.parametrize(
    ("weights", "told", "code"),
    [
        ((0, 0), {}, "spec_weights"),
        ((1, -1), {}, "spec_weights"),
        ((1, 1), {"rows": 0}, "spec_too_small"),
        ((1, 1), {"temperature": 0}, "spec_too_small"),
    ],
)
def test_settings_that_make_no_mixture_are_told_before_and_refused(
    ui: Ui, own: Version, general: Version, weights: tuple[float, ...], told: dict[str, Any], code: str
) -> None:
    given = settings([general], *weights, **told)
    assert "at-problems" in mixview.reckon(ui, drawn(own), *given)
    with pytest.raises(ProblemError, match=code):
        mixview.make(ui, own.id, "x", *given)
    assert derived(ui) == []


def test_a_source_without_training_rows_is_named(ui: Ui, shelf: Any, own: Version) -> None:
    held_out = shelf.dataset("tests", rows=30, **splits(0, 30))
    shown = mixview.reckon(ui, drawn(own), *settings([held_out], 1, 1))
    assert "Source 2 has no training rows" in shown
    assert "at-problems" not in mixview.reckon(ui, drawn(own), *settings([held_out], 1, 0))


def test_a_source_of_another_kind_and_one_that_is_gone_are_refused(
    ui: Ui, mixing: Mixing, shelf: Any, own: Version, general: Version
) -> None:
    pairs = shelf.dataset("pairs", row_kind="preference")
    told = settings([pairs], 1, 1)
    assert ui.t("refused") in data.ordered(ui, partial(mixview.make, ui), drawn(own), "x", *told)
    assert "kinds of rows" in mixview.reckon(ui, drawn(own), *told)
    with ui.store.write() as session:
        datasets.delete(session, "general")
    told = settings([general], 1, 1)
    for said in (
        mixview.reckon(ui, drawn(own), *told),
        mixview.choose(ui, mixing, drawn(own), [general.id])[mixing.told],
        mixview.propose(ui, mixing, drawn(own), *told)[mixing.told],
        data.ordered(ui, partial(mixview.make, ui), drawn(own), "x", *told),
    ):
        assert ui.t("refused") in said
    assert derived(ui) == []


def test_names_of_datasets_stay_text(ui: Ui, shelf: Any, own: Version) -> None:
    other = shelf.dataset("<b>other", rows=10, **splits(10))
    assert "<b>" not in mixview.reckon(ui, drawn(own), *settings([other], 1, 1))


def test_an_order_says_where_it_can_be_watched(ui: Ui, own: Version, general: Version) -> None:
    said = data.ordered(ui, partial(mixview.make, ui), drawn(own), "mixed", *settings([general], 1, 1))
    assert ui.t("data.queued", name="mixed") in said
