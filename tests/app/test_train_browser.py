"""The Train page in a real browser: its search, its presets, what differs from the defaults, and the keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app import draft
from app.ui import Ui
from storage import jobs
from tests.app.conftest import Runs, Shelf, home_in
from tests.app.test_shell_browser import CHROMIUM, Studio, browser, page, until, visit

__all__ = ["browser", "page"]
pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]
VISIBLE = """[...document.querySelectorAll("#train-form :is(.form > .block, fieldset)")]
    .filter((one) => one.checkVisibility()).map((one) => one.id)"""


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here: apt-get install chromium")
    folder = tmp_path_factory.mktemp("studio")
    with home_in(folder) as (home, store):
        shelf = Shelf(Ui(store, home, "en"))
        shelf.dataset("likes", row_kind="preference")
        shelf.dataset("tickets")
        shelf.model()
        made = Studio(folder, Runs(store))
        made.start()
        try:
            yield made
        finally:
            made.kill()


@pytest.fixture(autouse=True)
def empty_form(studio: Studio) -> None:
    with studio.runs.store.write() as session:
        draft.leave(session)
        draft.choose(session, dict.fromkeys(("objective.kind", "tuner.kind", "model.quantization")))
        draft.reset(session)
        draft.choose(session, {"data.dataset": "tickets"})


def opened(page: Any, studio: Studio) -> None:
    visit(page, studio, "/train")
    page.wait_for_selector("#train-objective input:checked")
    page.wait_for_selector("#run-card .at-chip")


def set_by(studio: Studio) -> dict[str, Any]:
    with studio.runs.store.read() as session:
        return draft.chosen(session)


def test_a_search_shows_the_settings_that_are_meant_wherever_they_stand_and_escape_shows_all_again(page, studio):
    opened(page, studio)
    before = page.evaluate(VISIBLE)
    page.keyboard.press("/")
    page.keyboard.type("学习率")
    until(page, "document.querySelector('#field-training-schedule')?.checkVisibility()")
    shown = page.evaluate(VISIBLE)
    assert "field-training-learning-rate" in shown and "field-training-epochs" not in shown
    assert page.evaluate("document.activeElement.id") == "at-search", "the settings were opened around the person"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.closest('[id^=field]').id") == "field-training-learning-rate"
    page.keyboard.press("Escape")
    until(page, "!document.querySelector('#field-training-schedule')?.checkVisibility()")
    assert page.evaluate(VISIBLE) == before
    assert page.evaluate("document.activeElement.id") == "at-search"
    assert page.faults == []


def test_a_search_stays_while_the_form_is_drawn_anew_and_finds_what_belongs_to_another_choice(page, studio):
    opened(page, studio)
    page.locator("#at-search").fill("dropout")
    until(page, "document.querySelector('#field-tuner-lora-dropout')?.checkVisibility()")
    page.locator("#field-tuner-lora-dropout input").fill("0.1")
    page.locator("#field-tuner-lora-dropout input").press("0")
    page.wait_for_selector("#train-differences:has-text('Dropout')")
    assert page.evaluate(VISIBLE) == ["field-tuner-lora-dropout"]
    page.locator("#at-search").fill("objective.sft.train_on_prompt")
    until(page, "document.querySelector('#field-objective-sft-train-on-prompt')?.checkVisibility()")
    page.locator("#at-search").fill("objective.dpo.beta")
    assert page.locator("#at-search-elsewhere").inner_text().startswith("Beta")
    assert "not with the present choices" in page.locator("#at-search-elsewhere").inner_text()
    with studio.runs.store.write() as session:
        draft.choose(session, {"objective.kind": "pretrain"})
    opened(page, studio)
    page.locator("#at-search").fill("train_on_prompt")
    page.locator("#at-search-elsewhere button").focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelector('#field-objective-sft-train-on-prompt')?.checkVisibility()")
    assert set_by(studio)["objective.kind"] == "sft"
    until(page, "document.activeElement.id === 'at-search'")
    assert page.faults == []


def test_a_run_is_made_with_the_keyboard_alone_from_a_preset_and_a_change_put_back(page, studio):
    opened(page, studio)
    page.locator("[data-order='preset:style']").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("[data-order='preset:style'][aria-pressed=true]")
    assert page.locator("#train-differences li").count() == 2
    until(page, "document.activeElement.dataset.order === 'preset:style'")
    page.locator("[data-order='back:training.epochs']").focus()
    page.keyboard.press("Enter")
    until(page, "document.querySelectorAll('#train-differences li').length === 1")
    assert page.locator("#field-training-epochs input").input_value() != "5"
    until(page, "document.activeElement.dataset.order === 'back:training.early_stopping_patience'")
    page.locator("#train-objective input:checked").focus()
    page.keyboard.press("ArrowDown")
    page.wait_for_selector("#train-differences:has-text('Objective')")
    until(page, "document.activeElement.value === 'pretrain'")
    page.keyboard.press("ArrowUp")
    page.wait_for_selector("#train-objective input[value=sft]:checked")
    page.locator("#start-training:not([disabled])").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#train-said a")
    with studio.runs.store.read() as session:
        made = jobs.listing(session, kinds=["train"])[0]
    assert made.spec["training"]["early_stopping_patience"] == 3
    assert made.spec["objective"]["kind"] == "sft", "what was chosen just before Start counts"
    page.locator("[data-order='undo:preset']").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#train-differences:has-text('every setting has its default')")
    assert page.faults == []


def test_an_empty_number_is_shown_empty_and_an_unfolded_choice_stays_so(page, studio):
    opened(page, studio)
    page.locator("#all-settings > button").click()
    page.wait_for_selector("#field-training-max-steps input")
    assert page.locator("#field-training-max-steps input").input_value() == ""
    page.locator("[data-keep=tuners] summary").click()
    page.locator("[data-keep=tuners] select").select_option("int8")
    page.wait_for_selector("[data-order='choose:tuner.kind:full'][disabled]")
    until(page, "document.querySelector('[data-keep=tuners]').open")
    page.locator("[data-keep=tuners] select").focus()
    page.locator("[data-keep=tuners] select").select_option("none")
    page.wait_for_selector("[data-order='choose:tuner.kind:full']:not([disabled])")
    until(page, "document.activeElement.dataset.orderOf === 'choose:model.quantization'")
    assert set_by(studio)["model.quantization"] == "none"
