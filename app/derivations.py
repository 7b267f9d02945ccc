"""Versions that the Data page has made of others: queued, shown at the top of the page, and said to be so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app import dataorders
from app.language import Text
from app.render import Html, note
from app.ui import Ui
from app.uploads import PAGE
from app.watching import watch
from engine.specs.problem import ProblemError, problem
from storage import datasets
from storage.datasets import Version


def derive(session: Session, name: str, sources: Sequence[Version], operation: Mapping[str, Any]) -> None:
    """Queue a version made of others.

    Raises:
        ProblemError: with every problem of the name and the operation.
    """
    told = {"name": name, "sources": [dataorders.part(one) for one in sources], "operation": operation}
    watch(session, PAGE, dataorders.order(session, "derive", name, told).id)


def give_task_types(ui: Ui, version_id: int, operation: Mapping[str, Any]) -> Html:
    """Queue a version with other task types, and say so.

    Raises:
        ProblemError: the operation is wrong, or every row has a task type and is to keep it.
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        known: Mapping[str, int] = version.statistics.get("task_types") or {}
        if operation["keep"] and sum(known.values()) >= version.usable_rows:
            raise ProblemError([problem("tasks_all_kept", rows=version.usable_rows)])
        derive(session, version.name, [version], operation)
    return queued(version.name, ui.t)


def queued(name: str, t: Text) -> Html:
    """Return that a version was queued, and where it can be watched."""
    return note("", t("data.queued", name=name), tone="good")
