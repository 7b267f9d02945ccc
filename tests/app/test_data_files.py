"""The Download view: files that a job wrote, with a link that gives them, and the card as Markdown."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from app import diskorders, diskuse, diskview, downloads, filesview
from app.pages import data
from app.ui import Ui
from engine.specs.versions import WriteDataSpec
from storage import jobs
from storage.datasets import Version
from storage.jobs import Holder, Job, Settlement
from storage.states import State


@pytest.fixture
def one(shelf: Any) -> Version:
    return shelf.dataset("my <b> data")


@pytest.fixture
def client(ui: Ui) -> TestClient:
    return TestClient(Starlette(routes=downloads.routes(ui.home, ui.store)))


def written(ui: Ui, version: Version, form: str = "csv", state: State = State.SUCCEEDED, defused: int = 0) -> Job:
    filesview.write(ui, version.id, form)
    with ui.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
        assert taken is not None
        job = taken[1]
    folder = ui.home.exports / str(job.id)
    folder.mkdir()
    (folder / f"data-1.{form}").write_text("a,b\n")
    result = {"files": [{"name": f"data-1.{form}", "bytes": 4}], "rows": 12, "defused": defused}
    reason = "done" if state == State.SUCCEEDED else "disk_full"
    with ui.store.write() as session:
        return jobs.settle(session, taken[0], Settlement(state, reason=reason, result=result))


def orders(ui: Ui) -> list[WriteDataSpec]:
    with ui.store.read() as session:
        return [WriteDataSpec(**job.spec) for job in jobs.listing(session, kinds=["write_data"])]


def test_a_file_is_ordered_once_and_another_kind_beside_it(ui: Ui, one: Version) -> None:
    for form in ("csv", "csv", "parquet"):
        filesview.write(ui, one.id, form)
    assert sorted(spec.form for spec in orders(ui)) == ["csv", "parquet"]
    assert orders(ui)[0].data.sha256 == one.sha256
    shown, pending = filesview.body(ui, one)
    assert pending is not None and shown.count(ui.t("files.waits")) == 2


def test_a_kind_of_file_that_does_not_exist_is_refused(ui: Ui, one: Version) -> None:
    said = data.ordered(ui, partial(filesview.write, ui), (one.name, one.id), "exe")
    assert ui.t("refused") in said and orders(ui) == []


def test_a_written_file_has_a_link_that_gives_it(ui: Ui, one: Version, client: TestClient) -> None:
    assert ui.t("files.none") in filesview.body(ui, one)[0]
    job = written(ui, one, defused=3)
    shown, pending = filesview.body(ui, one)
    address = downloads.address(job.id, "data-1.csv")
    assert pending is None and f'href="{address}"' in shown and "<td>12</td>" in shown
    assert ui.t("files.defused", n="3").replace("'", "&#x27;") in shown
    answer = client.get(address)
    assert answer.text == "a,b\n" and answer.headers["content-disposition"].startswith("attachment")


def test_a_file_that_was_deleted_has_no_link(ui: Ui, one: Version) -> None:
    job = written(ui, one)
    (ui.home.exports / str(job.id) / "data-1.csv").unlink()
    shown, _ = filesview.body(ui, one)
    assert ui.t("files.gone") in shown and "/files/export/" not in shown


def test_a_file_that_could_not_be_written_says_why(ui: Ui, one: Version) -> None:
    written(ui, one, state=State.FAILED)
    shown, _ = filesview.body(ui, one)
    assert ui.reason("disk_full", {}) in shown


def test_files_of_other_versions_are_not_shown(ui: Ui, one: Version, shelf: Any) -> None:
    written(ui, one)
    assert "data-1.csv" not in filesview.body(ui, shelf.dataset("other", rows=3))[0]


def test_the_card_comes_as_markdown_in_the_readers_language(ui: Ui, one: Version, client: TestClient) -> None:
    address = downloads.card_address(one.id)
    assert f'href="{address}"' in filesview.body(ui, one)[0]
    answer = client.get(address)
    assert answer.text.startswith("# my &lt;b&gt; data\n") and "Where it comes from" in answer.text
    said = answer.headers["content-disposition"]
    assert said == "attachment; filename*=utf-8''my%20%3Cb%3E%20data-1.md"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "来源" in client.get(address, headers={"accept-language": "zh"}).text


@pytest.mark.parametrize("number", ["99", "0", "9" * 40])
def test_a_card_of_nothing_is_404(client: TestClient, number: str) -> None:
    assert client.get(f"/files/card/{number}").status_code == 404


def test_the_components_stand_in_their_view_alone(ui: Ui, one: Version) -> None:
    with gr.Blocks():
        parts = filesview.build(ui.t)
    assert filesview.show(parts, one, "files")[parts.box]["visible"]
    assert not filesview.show(parts, one, "rows")[parts.box]["visible"]
    assert not filesview.show(parts, None, "files")[parts.box]["visible"]


def test_the_disk_page_lists_such_files_and_deletes_them(ui: Ui, one: Version) -> None:
    job = written(ui, one)
    with ui.store.read() as session:
        use = diskuse.read(session, ui.home)
    assert [(found.id, size) for found, size in use.exports] == [(job.id, 4)]
    assert 'href="/data"' in diskview.page(ui.t, use, "", 0.0)
    diskorders.obey(ui, f"export:{job.id}:1")
    assert not (ui.home.exports / str(job.id)).exists()
