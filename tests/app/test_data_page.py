"""The Data page: files come in, what is in them is shown as it is, and nothing in it becomes HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import datacard, dataview, rows, uploads, watching
from app.dataview import Wanted
from app.pages import data
from app.ui import Ui
from app.uploads import Upload
from engine.specs.other import ImportSpec
from engine.specs.problem import ProblemError
from storage import datasets, jobs
from storage.errors import Conflict
from storage.states import State


def imports(ui: Ui) -> list[Any]:
    with ui.store.read() as session:
        return jobs.listing(session, kinds=["import"])


class Page:
    """The page's components by name, and what its handlers return."""

    def __init__(self, ui: Ui, monkeypatch: pytest.MonkeyPatch) -> None:
        found: list[data.Parts] = []
        monkeypatch.setattr(data, "_wire", lambda _ui, parts, _chosen: found.append(parts))
        with gr.Blocks():
            data.build(ui)
        self.ui, self.parts = ui, found[0]

    def show(self, pending: int | None = None, **query: str) -> dict[str, Any]:
        return self._named(data.show(self.ui, self.parts, Wanted.of(query), pending))

    def again(self, before: Any, pending: int | None = None, **query: str) -> dict[str, Any]:
        return self._named(data.look_again(self.ui, self.parts, Wanted.of(query), before, pending))

    def _named(self, found: dict[Any, Any]) -> dict[str, Any]:
        return {
            name: found[part]
            for name in data.Parts.__dataclass_fields__
            if (part := getattr(self.parts, name)) in found
        }


@pytest.fixture
def page(ui: Ui, monkeypatch: pytest.MonkeyPatch) -> Page:
    return Page(ui, monkeypatch)


def test_a_dropped_file_is_copied_under_a_random_name_and_queued(page: Page, tmp_path: Path) -> None:
    folder = page.ui.home.staging / "browser"
    folder.mkdir()
    dropped = folder / "my <b> tickets.jsonl"
    dropped.write_text("{}\n")

    data.upload(page.ui, page.parts, [str(dropped)], None, "refuse")

    job = imports(page.ui)[0]
    spec = ImportSpec(**job.spec)
    assert (page.ui.home.staging / spec.staged).read_text() == "{}\n"
    assert "tickets" not in spec.staged
    assert (spec.name, spec.source_name, spec.policy, job.lane) == ("my _b_ tickets", dropped.name, "refuse", "cpu")
    assert not folder.exists()


@pytest.mark.parametrize("name", ["x" * 121, ""])
def test_a_name_is_taken_as_it_is_or_refused(ui: Ui, tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n")
    if not name:
        assert uploads.take_in(ui, Upload([path], name)).name == "rows"
        return
    with pytest.raises(ProblemError):
        uploads.take_in(ui, Upload([path], name))


def test_a_file_that_is_gone_is_refused_with_a_sentence(page: Page) -> None:
    said = data.upload(page.ui, page.parts, ["/nowhere/rows.jsonl"], "", "keep_usable")[page.parts.said]

    assert page.ui.t("refused") in said
    assert imports(page.ui) == []


def test_only_the_browsers_own_folder_is_deleted_after_an_upload(ui: Ui, tmp_path: Path) -> None:
    mine = tmp_path / "mine.jsonl"
    mine.write_text("{}")

    uploads.forget_original(ui, mine)

    assert mine.exists()


def test_one_click_adds_both_samples(page: Page) -> None:
    data.add_samples(page.ui)

    assert sorted(job.name for job in imports(page.ui)) == ["preferences", "tickets"]
    assert page.show()["timer"]["active"] is True


def test_an_import_is_shown_until_it_is_put_away_also_after_a_reload(page: Page, shelf: Any, runs: Any) -> None:
    data.add_samples(page.ui)
    made = shelf.dataset("tickets")
    with page.ui.store.write() as session:
        for _ in range(2):
            taken = jobs.claim(session, runs_holder(), lanes=["cpu"], lease_s=60)
            assert taken is not None
            result = {"name": made.name, "version": made.version}
            jobs.settle(session, taken[0], jobs.Settlement(State.SUCCEEDED, reason="done", values={}, result=result))

    shown = page.show()

    assert page.ui.t("import.open", name="tickets", version=1) in shown["imports"]
    assert shown["timer"]["active"] is False
    data.put_away(page.ui)
    assert page.show()["imports"] == ""


def runs_holder() -> Any:
    return jobs.Holder("worker-1", "laptop", "boot-1")


def test_a_refused_file_says_line_field_and_fix(page: Page) -> None:
    data.add_samples(page.ui)
    broken = {"code": "row_no_answer", "line": 41, "field": "messages", "values": {"text": "<script>"}}
    values = {"problems": [{"code": "data_no_usable_rows", "values": {"rows": 1}}, broken]}
    with page.ui.store.write() as session:
        taken = jobs.claim(session, runs_holder(), lanes=["cpu"], lease_s=60)
        assert taken is not None
        jobs.settle(session, taken[0], jobs.Settlement(State.FAILED, reason="data_no_usable_rows", values=values))

    shown = page.show()["imports"]

    assert "<td>41</td><td>messages</td>" in shown
    assert page.ui.t("import.nothing_stored") in shown


def test_a_problem_of_one_of_several_files_names_the_file_beside_the_line(page: Page, shelf: Any) -> None:
    found = {"code": "row_no_answer", "line": 7, "field": "messages", "values": {"file": "b<1>.jsonl"}}
    plain = {"code": "row_no_answer", "line": 8, "field": None, "values": {}}
    shelf.dataset(problems=[found, plain], problem_count=2)
    shown = page.show(dataset="tickets", view="problems")["body"]
    assert "<td>b&lt;1&gt;.jsonl</td><td>7</td>" in shown and "<td></td><td>8</td>" in shown

    data.add_samples(page.ui)
    with page.ui.store.write() as session:
        taken = jobs.claim(session, runs_holder(), lanes=["cpu"], lease_s=60)
        assert taken is not None
        values = {"problems": [{"code": "data_no_usable_rows", "values": {"rows": 1}}, found]}
        jobs.settle(session, taken[0], jobs.Settlement(State.FAILED, reason="data_no_usable_rows", values=values))
    assert "<td>b&lt;1&gt;.jsonl</td><td>7</td>" in page.show()["imports"]


def test_without_several_files_there_is_no_column_for_them(page: Page, shelf: Any) -> None:
    shelf.dataset(problems=[{"code": "row_no_answer", "line": 7, "field": None, "values": {}}], problem_count=1)
    shown = page.show(dataset="tickets", view="problems")["body"]
    assert f'<th scope="col">{page.ui.t("data.file")}</th>' not in shown


def test_languages_are_shown_with_their_names_and_what_they_were_judged_on(page: Page, shelf: Any) -> None:
    known = {"counts": {"en": 6, "xx": 2}, "looked_at": 10}
    shelf.dataset(statistics={"languages": known})
    shown = page.show(dataset="tickets", view="figures")["body"]
    for cell in ("English", "60 %", "xx", page.ui.t("data.language_unclear"), "20 %"):
        assert f"<td>{cell}</td>" in shown
    assert page.ui.t("data.judged_sample", counted=10, rows=12) in shown


def test_an_empty_page_says_what_will_appear(page: Page) -> None:
    shown = page.show()

    assert page.ui.t("data.empty_title") in shown["body"]
    assert shown["manage"]["visible"] is False


def test_an_address_of_a_dataset_that_is_not_there_is_said(page: Page, shelf: Any) -> None:
    shelf.dataset()

    shown = page.show(dataset="<b>gone")

    assert "&lt;b&gt;gone" in shown["body"]
    assert "<b>" not in shown["body"]


def test_rows_are_shown_a_page_at_a_time_and_escaped(page: Page, shelf: Any) -> None:
    shelf.dataset(rows=12)

    shown = page.show(dataset="tickets", row="12")["body"]

    assert "answer 11" in shown
    assert "answer 9" not in shown
    assert "<script>" not in shown
    assert "question 11 &lt;script&gt;" in shown


def test_rows_are_read_across_row_groups(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet as pq

    path = tmp_path / "rows.parquet"
    pq.write_table(pyarrow.table({"n": list(range(25))}), path, row_group_size=10)

    assert [row["n"] for row in rows.read(path, 8, 5)] == [8, 9, 10, 11, 12]
    assert [row["n"] for row in rows.read(path, 24, 5)] == [24]
    assert rows.read(path, 30, 5) == []


def test_both_sides_of_a_preference_are_shown(page: Page, shelf: Any) -> None:
    shelf.dataset("pairs", row_kind="preference")

    shown = page.show(dataset="pairs")["body"]

    assert "good 0" in shown
    assert "bad 0" in shown
    assert page.ui.t("data.held_out_row") in shown


def test_while_nothing_changed_the_view_is_not_drawn_again(page: Page, shelf: Any) -> None:
    shelf.dataset()
    first = page.show(dataset="tickets")

    assert page.again(first["drawn"], dataset="tickets")["body"] == gr.skip()
    shelf.dataset(rows=13)
    assert isinstance(page.again(first["drawn"], dataset="tickets")["body"], str)


@pytest.mark.parametrize("row", ["0", "-1", "x", "9" * 40, "²"])
def test_a_row_that_makes_no_sense_is_the_first(row: str) -> None:
    assert Wanted.of({"row": row, "view": "nothing"}) == Wanted()


def test_problems_and_warnings_of_a_version_are_shown(page: Page, shelf: Any) -> None:
    found = [{"code": "row_no_answer", "line": 7, "field": "messages", "values": {}}]
    shelf.dataset(problems=found, problem_count=60, warnings=[{"code": "duplicates", "values": {"rows": 2}}])

    shown = page.show(dataset="tickets", view="problems")

    assert "<td>7</td>" in shown["body"]
    assert page.ui.t("data.more_problems", n=60, shown=1) in shown["body"]
    assert "at-waiting" in shown["head"]


def test_a_dataset_is_renamed_and_the_address_follows(page: Page, shelf: Any) -> None:
    version = shelf.dataset()

    found = data.rename(page.ui, page.parts, (version.name, version.id), "a & b")

    assert 'data-address="/data?dataset=a+%26+b"' in found[page.parts.said]
    with page.ui.store.read() as session:
        assert datasets.get(session, "a & b").id == version.id


@pytest.mark.parametrize("name", ["", "  ", "pairs", None])
def test_a_name_that_is_none_or_taken_is_refused(page: Page, shelf: Any, name: str | None) -> None:
    version = shelf.dataset()
    shelf.dataset("pairs", row_kind="preference")

    found = data.rename(page.ui, page.parts, (version.name, version.id), name)

    assert page.ui.t("refused") in found[page.parts.said]


def test_a_dataset_is_deleted_with_its_files_only_after_confirmation(page: Page, shelf: Any) -> None:
    version = shelf.dataset()
    drawn = (version.name, version.id)

    data.delete(page.ui, page.parts, drawn, False)
    assert Path(version.path).exists()

    data.delete(page.ui, page.parts, drawn, True)
    assert not Path(version.path).parent.exists()
    assert page.ui.home.datasets.exists()


def test_a_dataset_in_use_is_not_deleted_and_the_page_says_why(page: Page, shelf: Any, runs: Any) -> None:
    version = shelf.dataset()
    job = runs.submit()

    found = data.delete(page.ui, page.parts, (version.name, version.id), True)

    assert page.ui.t("refused") in found[page.parts.said]
    assert Path(version.path).exists()
    with pytest.raises(Conflict):
        dataview.delete(page.ui, "tickets")
    assert job.state == State.QUEUED


def test_deleting_says_how_many_runs_learned_from_it(page: Page, shelf: Any, runs: Any) -> None:
    shelf.dataset()
    assert page.show()["sure"]["label"] == page.ui.t("data.sure")
    job = runs.submit()
    with page.ui.store.write() as session:
        jobs.cancel(session, job.id)

    assert page.show()["sure"]["label"] == page.ui.t("data.sure_runs", n=1)


def test_files_outside_the_home_are_never_deleted(ui: Ui, shelf: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    version = shelf.dataset()
    new = datasets.NewVersion(
        name="odd", sha256="x", path=str(outside / "rows.parquet"), row_kind="conversation", format="messages",
        rows=1, usable_rows=1, bytes=1, source_name="x",
    )  # fmt: skip
    with ui.store.write() as session:
        datasets.add_version(session, new)

    dataview.delete(ui, "odd")

    assert outside.exists()
    assert Path(version.path).exists()


def test_the_pager_leads_nowhere_from_the_ends(ui: Ui, shelf: Any) -> None:
    version = shelf.dataset(rows=12)

    first = datacard.pager(version, 0, 5, ui.t, view="rows")
    last = datacard.pager(version, 10, 5, ui.t, view="rows")

    assert (first.count("<a "), last.count("<a ")) == (2, 2)
    assert first.count("row=6") == 2  # the address and what the page is told
    assert "row=11" in first


def test_a_job_that_was_deleted_is_no_longer_watched(ui: Ui) -> None:
    with ui.store.write() as session:
        watching.watch(session, "data", 4711)

    with ui.store.read() as session:
        assert watching.watched(session, "data") == []
