"""Canonical rows: their hash names a version for ever, and their columns read back as what was written."""

from __future__ import annotations

import json

import pytest

from engine.data.importer import store_rows
from engine.data.rows import Content, iterate_rows

ODD = 'a "quoted" \\ line\nof é, €, \U0001f600, \x07 and \u2028'
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"b": 1, "a": [2.5, null]}'}}
TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}]


def said(role, content, **more):
    return {"role": role, "content": content, **more}


FILES = {
    "conversation": [
        {"messages": [said("user", "q"), said("assistant", "a")]},
        {"messages": [said("user", ODD), said("assistant", f" {ODD} "), said("user", "2"), said("assistant", "b")]},
        {"messages": [said("system", "s"), said("user", "q"), said("assistant", "a")], "split": "test"},
        {"messages": [said("user", "q"), said("assistant", "a", weight=0)], "task_type": "sums", "group": 7},
        {
            "messages": [
                said("user", "q"),
                said("assistant", None, tool_calls=[CALL]),
                said("tool", "25", tool_call_id="c1", name="f"),
                said("assistant", "it is 25"),
            ],
            "tools": TOOLS,
        },
        {"messages": [said("developer", ""), said("user", "q"), said("assistant", "a")]},
    ],
    "preference": [
        {"prompt": "q", "chosen": ODD, "rejected": "b"},
        {"prompt": [said("user", "q")], "chosen": [said("assistant", "a")], "rejected": [said("assistant", "b")]},
    ],
    "unpaired": [
        {"prompt": "q", "completion": ODD, "label": True},
        {"prompt": "q", "completion": "b", "label": False, "split": "train"},
    ],
    "text": [{"text": ODD}, {"text": "plain", "group": "g"}],
}
NAMES = {
    "conversation": "c042e4de299d580bade44e375a5808956b692695c5161d9052da77997b796be4",
    "preference": "409cc0dea748e678433fe460647d585e17c5f3fb77eec4d1c97d503dd3fb7329",
    "unpaired": "19b8aa2a87d2bb763d71a496dac9b71e07da9c4455cc24d200b07c7b7a9935ad",
    "text": "4ecef23d8c058df42b8820d08dbf215d90b8acca26409d4cf1b2bbd59a34e49b",
}


@pytest.mark.parametrize("kind", FILES)
def test_the_name_of_given_rows_never_changes(kind, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in FILES[kind]), encoding="utf-8")
    (tmp_path / "datasets").mkdir()
    stored = store_rows(path, tmp_path / "datasets")
    assert (stored.inspection.row_kind, stored.inspection.usable_rows) == (kind, len(FILES[kind]))
    content = Content()
    rows = list(content.pass_on(iterate_rows(stored.path)))
    assert stored.sha256 == content.sha256 == NAMES[kind], "versions that exist would no longer be found by their rows"
    assert len(rows) == len(FILES[kind])
