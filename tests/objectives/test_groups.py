"""Every objective stands in a group that a form knows and can name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from app.language import LANGUAGES, text
from engine.objectives import OBJECTIVES
from engine.objectives.groups import BY_ROWS, GROUPS, group_of


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_every_objective_has_a_group_with_a_name(kind: str) -> None:
    assert group_of(OBJECTIVES[kind]) in GROUPS
    assert all(text(language).has(f"objective_group.{group_of(OBJECTIVES[kind])}") for language in LANGUAGES)


def test_head_and_rows_tell_the_group_unless_the_objective_names_it() -> None:
    def one(head: str, *rows: str, **more: str) -> str:
        return group_of(SimpleNamespace(head=head, row_kinds=rows, **more))  # type: ignore[arg-type]

    assert one("language", "conversation", "preference") == "answers"
    assert one("classifier", "conversation") == "labels"
    assert one("score", "unpaired") == "preferences"
    assert one("language", "conversation", group="rewards") == "rewards"


def test_every_kind_of_row_has_a_group_and_a_hint_how_to_get_it() -> None:
    t = text("en")
    kinds = {kind for entry in OBJECTIVES.values() for kind in entry.row_kinds}
    assert [kind for kind in kinds if kind not in BY_ROWS or not t.has(f"row_kind.{kind}.how")] == []
