"""Task types by rules: a few lines of a form, of which the first that fits a row counts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import gradio as gr

from app import derivations
from app.frame import QUIET
from app.language import Text
from app.panel import Panel
from app.render import Html
from app.ui import Ui
from engine.specs.base import validate
from engine.specs.operations import AssignTaskType
from engine.specs.problem import Problem, ProblemError, Where, problem
from storage.datasets import Version

MOST_RULES = 6
WHERE = ("prompt", "answer", "row")
HOW = ("contains", "regex")
FIELDS = 4
Updates = dict[Any, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Rules:
    """Its components. Of each line: where, how, the text, and the task type."""

    box: gr.Accordion
    lines: Sequence[gr.Row]
    values: Sequence[Any]
    count: gr.State
    more: gr.Button
    keep: gr.Checkbox
    apply: gr.Button
    said: Panel

    @property
    def all(self) -> list[Any]:
        return [self.box, self.said]


def build(t: Text) -> Rules:
    """Lay the components out, hidden."""
    with gr.Accordion(t("rules.title"), open=False, visible=False, elem_id="rules") as box:
        lines: list[gr.Row] = []
        values: list[Any] = []
        for place in range(MOST_RULES):
            with gr.Row(visible=place == 0, elem_classes=["at-tools"]) as line:
                values += _line(place, t)
            lines.append(line)
        more = gr.Button(t("rules.more"), size="sm", elem_classes=["at-quiet"], elem_id="rules-more")
        keep = gr.Checkbox(True, label=t("tasks.keep"))
        apply = gr.Button(t("rules.apply"), size="md", elem_classes=["at-quiet"], elem_id="rules-apply")
        said = Panel(elem_id="rules-said")
    return Rules(box, lines, values, gr.State(1), more, keep, apply, said)


def _line(place: int, t: Text) -> list[Any]:
    where = [(t(f"rules.where.{one}"), one) for one in WHERE]
    how = [(t(f"rules.how.{one}"), one) for one in HOW]
    name = f"rule-{place + 1}"
    return [
        gr.Dropdown(where, value=WHERE[0], label=t("rules.rule", n=place + 1), min_width=130, elem_id=f"{name}-where"),
        gr.Dropdown(how, value=HOW[0], label=t("rules.how"), min_width=130, elem_id=f"{name}-how"),
        gr.Textbox(label=t("rules.text"), max_lines=1, min_width=180, scale=2, elem_id=f"{name}-text"),
        gr.Textbox(label=t("shape.role.task_type"), max_lines=1, min_width=150, elem_id=f"{name}-type"),
    ]


def wire(parts: Rules) -> None:
    """Show another line on request."""
    parts.more.click(partial(another, parts), [parts.count], [*parts.lines, parts.count, parts.more], **QUIET)


def another(parts: Rules, count: int) -> Updates:
    """Show one more line."""
    count = min(count + 1, MOST_RULES)
    shown: Updates = {line: gr.update(visible=place < count) for place, line in enumerate(parts.lines)}
    return {**shown, parts.count: count, parts.more: gr.update(visible=count < MOST_RULES)}


def show(parts: Rules, version: Version | None, view: str) -> Updates:
    """Show the form in its view; what was typed stays."""
    return {parts.box: gr.update(visible=version is not None and view == "tasks"), parts.said: Html("")}


def apply(ui: Ui, version_id: int, keep: bool, *values: str | None) -> Html:
    """Queue a version with the task types of the rules, and say so.

    Raises:
        ProblemError: a rule is not whole, or there is none.
        NotFound: the version is gone.
    """
    operation = {"kind": "assign_task_type", "rules": list(_rules(values)), "keep": keep}
    try:
        validate(AssignTaskType, operation, at="operation")
    except ProblemError as error:
        raise ProblemError([_placed(one, ui.t) for one in error.problems]) from error
    return derivations.give_task_types(ui, version_id, operation)


def _rules(values: Sequence[str | None]) -> Iterator[dict[str, Any]]:
    """The lines in which something stands. One that lacks its text or its task type is no rule for every row."""
    for start in range(0, len(values), FIELDS):
        where, how, text, task_type = values[start : start + FIELDS]
        given = {"text": (text or "").strip(), "task_type": (task_type or "").strip()}
        if not any(given.values()):
            continue
        if not all(given.values()):
            raise ProblemError([problem("tasks_half_a_rule", n=start // FIELDS + 1)])
        yield {"field": where, str(how): text, "task_type": given["task_type"]}


def _placed(one: Problem, t: Text) -> Problem:
    """A problem whose field is called as on the form; lines that were left empty count there."""
    return replace(one, where=Where(t("rules.title")))
