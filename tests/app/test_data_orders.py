"""Buttons of the Data page's views as the browser presses them: what is refused stays said, what was typed stays."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest

from app.pages import data
from app.ui import Ui
from storage import jobs


class Page:
    """The whole page, and the handlers behind its buttons."""

    def __init__(self, ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[data.Parts] = []
        wire = data._wire
        monkeypatch.setattr(data, "_wire", lambda ui, parts, chosen: (found.append(parts), wire(ui, parts, chosen)))
        with gr.Blocks() as self.blocks:
            data.build(ui)
        self.ui, self.parts = ui, found[0]

    def press(self, button: gr.Button, version: Any, view: str, given: dict[Any, Any]) -> dict[Any, Any]:
        """Press it where this version is shown in this view, with what was entered in its form."""
        (handler,) = [one for one in self.blocks.fns.values() if (button._id, "click") in one.targets]
        sent = {one: getattr(one, "value", None) for one in handler.inputs}
        sent |= {self.parts.drawn: (version.name, version.id), **given}
        request = SimpleNamespace(query_params={"dataset": version.name, "view": view})
        found: dict[Any, Any] = handler.fn(sent, request)
        return found


@pytest.fixture
def page(ui: Ui, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(ui, monkeypatch)


def test_a_refusal_is_still_there_when_the_view_was_drawn_anew(page: Page, shelf: Any) -> None:
    version, files, clusters = shelf.dataset(), page.parts.panes.files, page.parts.panes.tasks.clusters
    refused = page.ui.t("refused")
    assert refused in page.press(files.write, version, "files", {files.form: "exe"})[files.said]
    assert refused in page.press(clusters.propose, version, "tasks", {clusters.number: 50})[clusters.said]


def test_a_proposal_and_a_file_are_watched_at_once(page: Page, shelf: Any) -> None:
    version, files, clusters = shelf.dataset(), page.parts.panes.files, page.parts.panes.tasks.clusters
    written = page.press(files.write, version, "files", {files.form: "csv"})
    proposed = page.press(clusters.propose, version, "tasks", {clusters.number: 4})
    for shown in (written, proposed):
        assert shown[page.parts.pending] is not None and shown[page.parts.timer]["active"]


def test_a_version_is_examined_whatever_was_chosen_in_the_token_view(page: Page, shelf: Any) -> None:
    version, doctor = shelf.dataset(), page.parts.doctor
    shown = page.press(doctor.examine, version, "check", {page.parts.tokens.model: "starter"})
    assert page.ui.t("doctor.waits") in shown[page.parts.body]


def test_an_applied_form_keeps_what_was_typed_and_shows_the_order(page: Page, shelf: Any) -> None:
    version, rules = shelf.dataset(), page.parts.panes.tasks.rules
    shown = page.press(rules.apply, version, "tasks", {rules.values[2]: "question", rules.values[3]: "asking"})
    assert page.ui.t("data.queued", name=version.name) in shown[rules.said]
    assert shown[page.parts.timer]["active"] and version.name in shown[page.parts.imports]
    assert shown[page.parts.panes.tasks.clusters.names[0]] == gr.skip()
    with page.ui.store.read() as session:
        (job,) = jobs.listing(session, kinds=["derive"])
    assert job.spec["operation"]["rules"][0]["task_type"] == "asking"


def test_the_messages_stand_where_they_are_seen_before_there_is_any_proposal(page: Page) -> None:
    clusters = page.parts.panes.tasks.clusters
    assert clusters.said.parent is clusters.box
