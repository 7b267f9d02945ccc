"""What was recognised can be put right: format and columns by hand, then the file is read again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import gradio as gr
import pytest

from app import datacard, datafigures, importcard, shapeform
from app.pages import data
from app.ui import Ui
from engine.data.importer import Wishes, inspect
from engine.specs.other import ImportSpec
from engine.specs.problem import ProblemError, problem
from storage import jobs
from storage.jobs import Holder, Job, Settlement
from storage.states import State

COLUMNS = ["frage", "antwort", "art"]
FOUND = {
    "confidence": 0.9,
    "others": {},
    "columns": COLUMNS,
    "options": {},
    "reasons": [problem("shape_columns", columns="frage", percent=90).as_dict()],
}


@pytest.fixture
def form(ui: Ui) -> shapeform.ShapeForm:
    with gr.Blocks():
        return shapeform.build(ui.t)


@pytest.fixture
def version(shelf: Any) -> Any:
    facts = {
        "policy": "keep_usable",
        "mapping": {"prompt": "frage", "completion": "antwort"},
        "statistics": {"container": "csv", "recognition": FOUND},
    }
    made = shelf.dataset("fragen", **facts)
    (Path(made.path).parent / "source.csv").write_text("frage,antwort,art\na,b,c\n")
    return made


@pytest.fixture
def refused(ui: Ui) -> Job:
    """An import whose columns nobody knows."""
    (ui.home.staging / "upload").write_text("frage,antwort\na,b\n")
    with pytest.raises(ProblemError) as caught:
        inspect(ui.home.staging / "upload")
    spec = ImportSpec(staged="upload", source_name="fragen.csv", name="fragen").model_dump(mode="json")
    with ui.store.write() as session:
        jobs.submit(session, kind="import", name="fragen", spec=spec, lane="cpu")
    with ui.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
        assert taken is not None
        values = {"problems": [one.as_dict() for one in caught.value.problems]}
        return jobs.settle(session, taken[0], Settlement(State.FAILED, reason="data_unknown_columns", values=values))


def test_what_was_recognised_is_said_with_reasons_and_can_be_changed(ui: Ui, form: Any, version: Any) -> None:
    shown = shapeform.show(ui, form, shapeform.of_version(version))
    assert shown[form.box]["visible"] and "messages" in shown[form.box]["label"]
    assert "90 %" in shown[form.told] and "frage" in shown[form.told]
    assert shown[form.format]["value"] == "messages"
    chosen = shapeform.choose(ui, form, ("version", version.id), "prompt_completion")
    labels = [chosen[one].get("label") for one in form.roles if chosen[one]["visible"]]
    assert labels[:2] == [f"{ui.t('shape.role.prompt')} *", f"{ui.t('shape.role.completion')} *"]
    assert [value for _, value in chosen[form.roles[0]]["choices"]] == ["", *COLUMNS]


def test_the_file_is_read_again_as_it_was_said_and_becomes_a_version_of_the_same_dataset(ui: Ui, version: Any) -> None:
    roles = ["frage", "antwort", "", "", "", "art"]
    job = shapeform.read_again(ui, ("version", version.id), "prompt_completion", roles)
    spec = ImportSpec(**job.spec)
    assert (spec.name, spec.format) == ("fragen", "prompt_completion")
    assert {role: name for role, name in spec.mapping.items() if name} == {
        "prompt": "frage",
        "completion": "antwort",
        "task_type": "art",
    }
    staged = ui.home.staging / spec.staged
    assert staged.read_text() == "frage,antwort,art\na,b,c\n"
    found = inspect(staged, Wishes(format=spec.format, mapping=spec.mapping))
    assert found.sample[0]["task_type"] == "c" and found.sample[0]["messages"][1]["content"] == "b"


def test_a_role_that_is_needed_has_to_be_given(ui: Ui, version: Any) -> None:
    with pytest.raises(ProblemError) as caught:
        shapeform.read_again(ui, ("version", version.id), "preference", ["frage"])
    assert [one.where.field for one in caught.value.problems] == ["mapping.chosen", "mapping.rejected"]


def test_a_file_with_unknown_columns_can_be_read_once_they_are_named(ui: Ui, form: Any, refused: Job) -> None:
    assert "upload=" in importcard.html([(refused, None)], ui)
    known = shapeform.known(ui, ("import", refused.id))
    assert known is not None
    shown = shapeform.show(ui, form, known)
    assert shown[form.box]["open"] and shown[form.box]["label"] == ui.t("shape.unknown")
    job = shapeform.read_again(ui, ("import", refused.id), "prompt_completion", ["frage", "antwort"])
    spec = ImportSpec(**job.spec)
    assert (
        spec.source_name == "fragen.csv"
        and inspect(ui.home.staging / spec.staged, Wishes(format=spec.format, mapping=spec.mapping)).usable_rows == 1
    )


def test_without_the_file_nothing_is_offered(ui: Ui, form: Any, version: Any, refused: Job) -> None:
    os.unlink(Path(version.path).parent / "source.csv")
    (ui.home.staging / "upload").unlink()
    for subject in (("version", version.id), ("import", refused.id), ("version", 999), None):
        assert shapeform.show(ui, form, shapeform.known(ui, subject))[form.box] == gr.update(visible=False)
        with pytest.raises(ProblemError):
            shapeform.read_again(ui, subject, "messages", [])
    assert "upload=" not in importcard.html([(refused, None)], ui)


def test_the_page_says_what_it_could_not_do(ui: Ui, version: Any) -> None:
    assert ui.t("refused") in data.read_again(ui, ("version", version.id), "preference", "frage")
    assert "fragen" in data.read_again(ui, ("version", version.id), "prompt_completion", "frage", "antwort")


def test_figures_are_pictures_and_tables_and_nothing_of_them_is_html(ui: Ui, shelf: Any) -> None:
    bars = [[0, 9, 3], [10, 99, 0], [100, 1500, 2]]
    known = {
        "answer_characters": {"median": 5, "p95": 1400, "max": 1500, "bars": bars},
        "task_types": {"<b>tone": 3, "sort": 1},
    }
    shown = datafigures.figures(shelf.dataset(statistics=known), ui.t)
    assert shown.count("<rect") == 3 and "100–1,500" in shown and "75 %" in shown
    assert "<b>tone" not in shown and "&lt;b&gt;tone" in shown
    assert datafigures.figures(shelf.dataset("old", rows=3), ui.t) == '<div class="at-stack"></div>'


def test_versions_are_listed_with_the_way_to_each(ui: Ui, shelf: Any) -> None:
    first = shelf.dataset(rows=3)
    made = {"operation": "sample", "settings": {}, "parents": [{"name": "<tickets>", "version": 1, "sha256": "a"}]}
    second = shelf.dataset(rows=4, made_from=made)
    shown = datacard.versions(first, [second, first], 0.0, ui.t)
    assert "version=2" in shown and "version=1" not in shown
    assert f"{ui.t('operation.sample')}: &lt;tickets&gt; 1" in shown


def test_problems_are_counted_by_kind_and_can_all_be_fetched(ui: Ui, shelf: Any) -> None:
    found = [problem("row_empty_answer", line=2).as_dict(), problem("row_nul", line=9).as_dict()]
    known = {"problem_kinds": {"row_empty_answer": 1200, "row_nul": 1}}
    one = shelf.dataset(problems=found, problem_count=1201, statistics=known)
    shown = datacard.problems(one, ui.t)
    assert "1,200" in shown and f"/files/problems/{one.id}" in shown


def test_rows_of_every_kind_are_shown(ui: Ui, shelf: Any) -> None:
    def said(role: str, content: str, **more: Any) -> dict[str, Any]:
        return {"role": role, "content": content, **more}

    asked, answer = said("user", "<b>ask"), said("assistant", "", tool_calls='[{"id":"<i>"}]')
    rows = [
        {"messages": [asked, answer, said("tool", "42")], "tools": '[{"name":"<u>"}]', "task_type": "<s>"},
        {"prompt": [asked], "completion": [said("assistant", "fine")], "label": True, "score": None},
        {"prompt": [asked], "completion": [said("assistant", "fine")], "label": None, "score": 3.5},
        {"text": "once <em>upon"},
    ]
    shown = datacard.rows(shelf.dataset(rows=4), rows, 0, ui.t)
    for text in (
        "&lt;b&gt;ask",
        "&lt;i&gt;",
        "&lt;u&gt;",
        "&lt;s&gt;",
        "once &lt;em&gt;upon",
        ui.t("role.tool"),
        ui.t("data.label.true"),
        "3.5",
    ):
        assert text in shown
    assert not any(mark in shown for mark in ("<b>", "<i>", "<u>", "<em>"))
