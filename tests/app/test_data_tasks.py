"""The Task types view: how they are, a proposal with names to change, and rules."""

from __future__ import annotations

from functools import partial
from typing import Any

import gradio as gr
import pytest

from app import rows, taskclusters, taskrules, tasksview
from app.pages import data
from app.tasksview import Tasks
from app.ui import Ui
from engine.specs.problem import ProblemError
from engine.specs.versions import ClusterSpec, DeriveSpec
from storage import jobs
from storage.datasets import Version
from storage.jobs import Holder, Job, Settlement
from storage.states import State

KEY = "0123456789abcdef"
CLUSTERS = [
    {"words": ["refund", "money", "<b>back"], "count": 9, "rows": [7, 2]},
    {"words": ["late"], "count": 3, "rows": [11]},
]


@pytest.fixture
def tasks(ui: Ui) -> Tasks:
    with gr.Blocks():
        return tasksview.build(ui.t)


@pytest.fixture
def one(shelf: Any) -> Version:
    return shelf.dataset(statistics={"task_types": {"refunds": 8, "<i>other": 1}})


def proposed(ui: Ui, version: Version, state: State = State.SUCCEEDED, **result: Any) -> Job:
    taskclusters.propose(ui, version.id, 2)
    with ui.store.write() as session:
        taken = jobs.claim(session, Holder("w", "h", "b"), lanes=["cpu"], lease_s=60)
        assert taken is not None
        told = {"key": KEY, "rows": 12, "looked_at": 10, "without": 0, "clusters": CLUSTERS, **result}
        reason = "done" if state == State.SUCCEEDED else "data_nothing_alike"
        return jobs.settle(session, taken[0], Settlement(state, reason=reason, result=told))


def ordered(ui: Ui, kind: str) -> list[dict[str, Any]]:
    with ui.store.read() as session:
        return [job.spec for job in jobs.listing(session, kinds=[kind])]


def test_the_task_types_are_counted_with_the_rows_that_have_none(ui: Ui, one: Version, shelf: Any) -> None:
    shown, pending = tasksview.body(ui, one)
    assert pending is None and "<td>refunds</td><td>8</td><td>67 %</td>" in shown
    assert f"{ui.t('tasks.without')}</span></td><td>3</td><td>25 %</td>" in shown and "<i>" not in shown
    assert ui.t("tasks.none") in tasksview.body(ui, shelf.dataset("plain"))[0]


def test_many_task_types_are_summed_up(ui: Ui, shelf: Any) -> None:
    many = shelf.dataset("many", rows=40, statistics={"task_types": {f"type {n}": 1 for n in range(40)}})
    assert f"<td>{ui.t('tasks.others', n=10)}</td><td>10</td>" in tasksview.body(ui, many)[0]


def test_a_proposal_is_ordered_once_and_waited_for(ui: Ui, tasks: Tasks, one: Version) -> None:
    for _ in range(2):
        taskclusters.propose(ui, one.id, 5)
    (spec,) = ordered(ui, "cluster")
    assert ClusterSpec(**spec).clusters == 5
    shown, pending = tasksview.body(ui, one)
    assert pending is not None and ui.t("clusters.waits") in shown
    assert not tasksview.show(ui, tasks, one, "tasks")[tasks.clusters.propose]["interactive"]


@pytest.mark.parametrize("wrong", [None, 1, 21])
def test_a_number_of_clusters_out_of_bounds_is_refused(ui: Ui, one: Version, wrong: float | None) -> None:
    said = data.ordered(ui, partial(taskclusters.propose, ui), (one.name, one.id), wrong)
    assert ui.t("refused") in said and ordered(ui, "cluster") == []


def test_clusters_come_with_their_rows_and_a_name_to_change(ui: Ui, tasks: Tasks, one: Version) -> None:
    proposed(ui, one)
    shown = tasksview.show(ui, tasks, one, "tasks")
    parts = tasks.clusters
    panel = shown[parts.shown[0]]
    assert "1 · refund · money · &lt;b&gt;back" in panel and "9 rows · 75 %" in panel
    assert "<li>question 7 &lt;script&gt;</li><li>question 2" in panel
    assert [shown[name] for name in parts.names[:3]] == ["refund money", "late", ""]
    assert [shown[line]["visible"] for line in parts.lines[:3]] == [True, True, False]
    assert shown[parts.subject] == (KEY, 2) and shown[parts.found]["visible"]
    assert ui.t("clusters.found", n=2, rows="10") in tasksview.body(ui, one)[0]
    hidden = tasksview.show(ui, tasks, one, "rows")
    assert not hidden[parts.box]["visible"] and not hidden[tasks.rules.box]["visible"]


def test_names_cannot_be_typed_for_clusters_that_are_about_to_go(ui: Ui, tasks: Tasks, one: Version) -> None:
    proposed(ui, one)
    taskclusters.propose(ui, one.id, 3)
    assert not tasksview.show(ui, tasks, one, "tasks")[tasks.clusters.found]["visible"]


def test_another_version_shows_no_clusters_of_the_first(ui: Ui, tasks: Tasks, one: Version, shelf: Any) -> None:
    proposed(ui, one)
    other = shelf.dataset("other", rows=3)
    shown = tasksview.show(ui, tasks, other, "tasks")
    assert not shown[tasks.clusters.found]["visible"] and shown[tasks.clusters.subject] is None
    assert not shown[tasks.clusters.lines[0]]["visible"] and shown[tasks.clusters.names[0]] == ""


def test_a_proposal_that_failed_says_why_and_hides_none_before_it(ui: Ui, tasks: Tasks, one: Version) -> None:
    proposed(ui, one)
    proposed(ui, one, State.FAILED)
    shown, _ = tasksview.body(ui, one)
    assert ui.t("problem.data_nothing_alike.what") in shown
    assert tasksview.show(ui, tasks, one, "tasks")[tasks.clusters.found]["visible"]


def test_rows_in_no_cluster_are_told_and_a_file_that_is_gone_costs_only_the_examples(
    ui: Ui, tasks: Tasks, one: Version
) -> None:
    proposed(ui, one, without=4)
    assert ui.t("clusters.without", n=4) in tasksview.body(ui, one)[0]
    (ui.home.datasets / "tickets-12" / "rows.parquet").unlink()
    panel = tasksview.show(ui, tasks, one, "tasks")[tasks.clusters.shown[0]]
    assert "refund" in panel and "question" not in panel


def test_names_are_applied_and_cleared_ones_stay_empty(ui: Ui, one: Version) -> None:
    said = taskclusters.apply(ui, one.id, (KEY, 2), False, "refunds", None, "hidden field")
    spec = DeriveSpec(**ordered(ui, "derive")[0])
    told = {"kind": "name_clusters", "clustered": KEY, "names": ("refunds", ""), "keep": False}
    assert spec.operation.model_dump() == told and spec.name == one.name
    assert ui.t("data.queued", name=one.name) in said


@pytest.mark.parametrize("subject", [None, (KEY, 2)])
def test_no_proposal_or_no_name_is_refused(ui: Ui, one: Version, subject: Any) -> None:
    with pytest.raises(ProblemError, match=r"data_not_clustered|spec_no_cluster_names"):
        taskclusters.apply(ui, one.id, subject, True, "", " ")


def test_a_version_whose_rows_all_keep_their_types_is_not_made_again(ui: Ui, shelf: Any) -> None:
    full = shelf.dataset("full", statistics={"task_types": {"a": 12}})
    with pytest.raises(ProblemError, match="tasks_all_kept"):
        taskclusters.apply(ui, full.id, (KEY, 1), True, "x")
    with pytest.raises(ProblemError, match="tasks_all_kept"):
        taskrules.apply(ui, full.id, True, "prompt", "contains", "x", "y")
    taskclusters.apply(ui, full.id, (KEY, 1), False, "x")
    assert len(ordered(ui, "derive")) == 1


def test_rules_are_taken_in_their_order_and_empty_lines_left_out(ui: Ui, one: Version) -> None:
    lines = [
        "answer",
        "regex",
        r"^\d+$",
        " number ",
        "prompt",
        "contains",
        "",
        None,
        "row",
        "contains",
        "Hi ",
        "greeting",
    ]
    said = taskrules.apply(ui, one.id, True, *lines)
    (spec,) = ordered(ui, "derive")
    first, second = spec["operation"]["rules"]
    assert (first["field"], first["regex"], first["task_type"], first["contains"]) == (
        "answer",
        r"^\d+$",
        "number",
        None,
    )
    assert (second["field"], second["contains"], second["task_type"]) == ("row", "Hi ", "greeting")
    assert ui.t("data.queued", name=one.name) in said


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (["prompt", "contains", "x", ""], "tasks_half_a_rule"),
        (["prompt", "contains", " ", "x"], "tasks_half_a_rule"),
        (["prompt", "regex", "(", "x"], "spec_bad_pattern"),
        (["prompt", "contains", "", ""], "spec_no_rules"),
    ],
)
def test_rules_that_are_none_are_refused(ui: Ui, one: Version, line: list[str], code: str) -> None:
    with pytest.raises(ProblemError, match=code):
        taskrules.apply(ui, one.id, True, *line)
    said = data.ordered(ui, partial(taskrules.apply, ui), (one.name, one.id), True, *line)
    assert ui.t("refused") in said and "operation." not in said and ordered(ui, "derive") == []


def test_another_line_is_shown_until_there_are_no_more(ui: Ui, tasks: Tasks) -> None:
    parts = tasks.rules
    shown = taskrules.another(parts, 1)
    assert [shown[line]["visible"] for line in parts.lines] == [True, True, False, False, False, False]
    last = taskrules.another(parts, taskrules.MOST_RULES)
    assert last[parts.count] == taskrules.MOST_RULES and not last[parts.more]["visible"]


def test_rows_by_number_are_read_across_row_groups_and_files(tmp_path: Any) -> None:
    import pyarrow
    import pyarrow.parquet as pq

    pq.write_table(pyarrow.table({"n": list(range(25))}), tmp_path / "rows.parquet", row_group_size=10)
    pq.write_table(pyarrow.table({"n": list(range(25, 30))}), tmp_path / "rows-1.parquet")
    found = rows.at(tmp_path / "rows.parquet", [0, 9, 10, 24, 25, 29, 99])
    assert {place: row["n"] for place, row in found.items()} == {n: n for n in (0, 9, 10, 24, 25, 29)}
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    with pytest.raises(OSError):
        rows.at(tmp_path / "rows.parquet", [0])
