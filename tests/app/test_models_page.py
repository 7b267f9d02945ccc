"""The Models page: what is there, what is on its way, and what cannot be removed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import modeladding
from app.pages import models as page_of
from app.ui import Ui
from engine.specs.other import AddModelSpec
from engine.specs.starter import ADD_STARTER
from storage import jobs, models
from storage.states import State

HOLDER = jobs.Holder("worker-1", "laptop", "boot-1")


class Page:
    def __init__(self, ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[page_of.Parts] = []
        monkeypatch.setattr(page_of, "_wire", lambda _ui, parts, _chosen: found.append(parts))
        with gr.Blocks():
            page_of.build(ui)
        self.ui, self.parts = ui, found[0]

    def show(self, name: str | None = None) -> dict[str, Any]:
        return self._named(page_of.show(self.ui, self.parts, name))

    def add(
        self, source: str, location: str | None, revision: str | None = "", name: str | None = ""
    ) -> dict[str, Any]:
        return self._named(page_of.add(self.ui, self.parts, source, location, revision, name))

    def _named(self, found: dict[Any, Any]) -> dict[str, Any]:
        fields = page_of.Parts.__dataclass_fields__
        return {name: found[part] for name in fields if (part := getattr(self.parts, name)) in found}


@pytest.fixture
def page(ui: Ui, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(ui, monkeypatch)


def adding(ui: Ui) -> list[Any]:
    with ui.store.read() as session:
        return jobs.listing(session, kinds=["add_model"])


def settle(ui: Ui, state: State, reason: str = "done", **more: Any) -> None:
    with ui.store.write() as session:
        taken = jobs.claim(session, HOLDER, lanes=["cpu"], lease_s=60)
        assert taken is not None
        jobs.settle(session, taken[0], jobs.Settlement(state, reason=reason, **{"values": {}, **more}))


def test_an_empty_page_offers_the_starter(page: Page) -> None:
    shown = page.show()

    assert shown["starter"]["visible"] is True
    assert page.ui.t("models.empty_title") in shown["detail"]
    modeladding.add_starter(page.ui)
    assert AddModelSpec(**adding(page.ui)[0].spec) == ADD_STARTER
    assert page.show()["starter"]["visible"] is False


def test_a_folder_is_added_under_its_own_name(page: Page) -> None:
    page.add("folder", " /data/My Model/ ", None, None)

    job = adding(page.ui)[0]
    assert (job.name, job.lane) == ("My Model", "cpu")
    assert AddModelSpec(**job.spec).location == "/data/My Model/"
    assert page.show()["timer"]["active"] is True


def test_a_hub_id_is_added_with_its_revision(page: Page) -> None:
    page.add("hub", "Org/Name", "abc", "mine")

    spec = AddModelSpec(**adding(page.ui)[0].spec)
    assert (spec.source, spec.revision, spec.name) == ("hub", "abc", "mine")


@pytest.mark.parametrize(
    ("source", "location", "name"),
    [("folder", "", ""), ("folder", None, None), ("folder", "/x", "starter"), ("elsewhere", "/x", "")],
)
def test_what_cannot_be_added_is_said_and_kept_in_the_form(
    page: Page, shelf: Any, source: str, location: str, name: str
) -> None:
    shelf.model()

    found = page.add(source, location, "", name)

    assert page.ui.t("refused") in found["said"]
    assert found["location"] == gr.skip()
    assert adding(page.ui) == []


def test_a_download_shows_its_bytes_and_can_be_cancelled(page: Page) -> None:
    page.add("hub", "Org/Name")
    with page.ui.store.write() as session:
        taken = jobs.claim(session, HOLDER, lanes=["cpu"], lease_s=60)
        assert taken is not None
        jobs.progress(session, taken[0], phase="model_downloading", step=100, total=400)

    shown = page.show()

    assert page.ui.t("models.bytes", done="105 MB", total="419 MB") in shown["arrivals"]
    assert 'aria-valuenow="25"' in shown["arrivals"]
    page_of.cancel(page.ui)
    assert adding(page.ui)[0].cancel_requested_at is not None


def test_a_refused_model_says_every_reason(page: Page) -> None:
    page.add("folder", "/x")
    found = [
        {"code": "model_pickle_weights", "values": {"files": "<b>.bin"}},
        {"code": "model_custom_code", "values": {}},
    ]
    settle(page.ui, State.FAILED, "model_pickle_weights", values={"problems": found})

    shown = page.show()["arrivals"]

    assert shown.count("<li>") == 2
    assert "<b>" not in shown
    page_of.put_away(page.ui)
    assert page.show()["arrivals"] == ""


def test_a_model_shows_its_facts_escaped(page: Page, shelf: Any) -> None:
    shelf.model(
        "odd", licence="<i>mit", facts={"architecture": "<script>", "context_length": 8192, "location": "/a/<b>"}
    )

    shown = page.show("odd")["detail"]

    assert "8,192" in shown
    assert "<script>" not in shown
    assert "&lt;i&gt;mit" in shown


def test_the_starter_cannot_be_removed(page: Page, shelf: Any) -> None:
    model = shelf.model()

    assert page.show()["manage"]["visible"] is False
    found = page_of.remove(page.ui, page.parts, "starter", True)

    assert page.ui.t("refused") in found[page.parts.said]
    assert Path(model.path).exists()


def test_a_model_is_removed_with_its_copy_only_after_confirmation(page: Page, shelf: Any) -> None:
    model = shelf.model("mine")

    page_of.remove(page.ui, page.parts, "mine", False)
    assert Path(model.path).exists()
    page_of.remove(page.ui, page.parts, "mine", True)

    assert not Path(model.path).exists()
    with page.ui.store.read() as session:
        assert models.listing(session) == []


def test_a_model_that_an_open_run_needs_is_not_removed(page: Page, shelf: Any, runs: Any) -> None:
    model = shelf.model("mine")
    runs.submit(model__id="mine")

    found = page_of.remove(page.ui, page.parts, "mine", True)

    assert page.ui.t("refused") in found[page.parts.said]
    assert Path(model.path).exists()


def test_how_many_runs_need_a_model_is_said_before_it_is_removed(page: Page, shelf: Any, runs: Any) -> None:
    shelf.model("mine")
    runs.submit(model__id="mine")

    assert page.show("mine")["sure"]["label"] == page.ui.t("models.sure_runs", n=1)


def test_files_that_another_model_shares_or_that_are_not_ours_stay(ui: Ui, shelf: Any, tmp_path: Path) -> None:
    first = shelf.model("one")
    outside = tmp_path / "outside"
    outside.mkdir()
    with ui.store.write() as session:
        models.add(session, models.NewModel(name="two", path=first.path, source="folder", bytes=1))
        models.add(session, models.NewModel(name="three", path=str(outside), source="folder", bytes=1))

    modeladding.remove(ui, "two")
    modeladding.remove(ui, "three")

    assert Path(first.path).exists()
    assert outside.exists()


def test_a_confirmation_that_is_being_given_stays_while_the_page_looks_again(page: Page, shelf: Any) -> None:
    shelf.model("mine")

    found = page_of.look_again(page.ui, page.parts, None, "mine")

    assert found[page.parts.sure] == gr.skip()
    assert isinstance(found[page.parts.list], str)


def test_the_form_asks_for_what_the_source_needs(page: Page) -> None:
    found = page_of.change_source(page.ui, page.parts, "hub")

    assert found[page.parts.revision]["visible"] is True
    assert found[page.parts.location]["label"] == page.ui.t("models.location.hub")
