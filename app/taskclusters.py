"""A proposal of task types: the prompts in clusters, which a person names, clears, and makes a version of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from app import dataorders, derivations, rows, underway
from app.language import Text
from app.measure import number, share
from app.panel import Panel
from app.render import Html, card, note, tag
from app.rows import Row
from app.ui import Ui
from engine.specs.operations import MOST_CLUSTERS
from engine.specs.problem import ProblemError, problem
from storage import datasets
from storage.datasets import Version
from storage.jobs import Job
from storage.states import FINAL, State

USUAL_CLUSTERS = 8
NAME_WORDS = 2
EXAMPLE_CHARACTERS = 220
Updates = dict[Any, Any]
Subject = tuple[str, int]
"""The key of the proposal that is shown, and how many clusters it has."""


@dataclass(frozen=True, slots=True, eq=False)
class Clusters:
    """Its components. Each cluster has a line: a panel with what is in it, beside the field for its name."""

    box: gr.Column
    number: gr.Number
    propose: gr.Button
    found: gr.Column
    lines: Sequence[gr.Row]
    shown: Sequence[Panel]
    names: Sequence[gr.Textbox]
    keep: gr.Checkbox
    apply: gr.Button
    said: Panel
    subject: gr.State

    @property
    def all(self) -> list[Any]:
        return [
            self.box,
            self.propose,
            self.found,
            *self.lines,
            *self.shown,
            *self.names,
            self.keep,
            self.said,
            self.subject,
        ]


def build(t: Text) -> Clusters:
    """Lay the components out, hidden."""
    with gr.Column(visible=False, elem_id="clusters") as box:
        with gr.Row(elem_classes=["at-tools"]):
            number_ = gr.Number(
                USUAL_CLUSTERS, precision=0, label=t("clusters.number"), info=t("clusters.number_help"), scale=0,
                min_width=280, elem_id="clusters-number",
            )  # fmt: skip
            propose = gr.Button(t("clusters.propose"), size="md", elem_id="clusters-propose")
        with gr.Column(visible=False) as found:
            lines, shown, names = [], [], []
            for place in range(MOST_CLUSTERS):
                with gr.Row(visible=False, elem_classes=["at-cluster"]) as line:
                    shown.append(Panel())
                    name = f"cluster-{place + 1}"
                    names.append(gr.Textbox(max_lines=1, label=t("clusters.name", n=place + 1), elem_id=name))
                lines.append(line)
            keep = gr.Checkbox(True, label=t("tasks.keep"))
            apply = gr.Button(t("clusters.apply"), size="md", elem_classes=["at-quiet"], elem_id="clusters-apply")
        said = Panel(elem_id="clusters-said")
    return Clusters(box, number_, propose, found, lines, shown, names, keep, apply, said, gr.State())


def show(ui: Ui, parts: Clusters, version: Version | None, view: str) -> Updates:
    """Draw the newest proposal for a version."""
    hidden: Updates = {one: gr.skip() for one in parts.all}
    if version is None or view != "tasks":
        return {**hidden, parts.box: gr.update(visible=False)}
    with ui.store.read() as session:
        job, done = dataorders.latest(session, "cluster", version)
    idle = job is None or job.state in FINAL
    result = (done.result if done is not None else None) or {}
    clusters = result.get("clusters", []) if idle else []
    examples = _examples(version, clusters)
    updates: Updates = {line: gr.update(visible=place < len(clusters)) for place, line in enumerate(parts.lines)}
    updates |= dict.fromkeys(parts.shown, Html("")) | dict.fromkeys(parts.names, "")
    for place, (panel, name, one) in enumerate(zip(parts.shown, parts.names, clusters, strict=False), 1):
        updates[panel] = _card(place, one, result["rows"], examples, ui.t)
        updates[name] = " ".join(one["words"][:NAME_WORDS])
    return {
        **updates,
        parts.box: gr.update(visible=True),
        parts.propose: gr.update(interactive=idle),
        parts.found: gr.update(visible=bool(clusters)),
        parts.keep: True,
        parts.said: Html(""),
        parts.subject: (result["key"], len(clusters)) if clusters else None,
    }


def body(ui: Ui, version: Version) -> tuple[Html, int | None]:
    """Return what is known of a proposal: its job while it goes on, else why it failed or what it rests on."""
    t = ui.t
    with ui.store.read() as session:
        job, done = dataorders.latest(session, "cluster", version)
    title = t("clusters.title")
    if job is not None and job.state not in FINAL:
        going_on = underway.progress(job, waits=t("clusters.waits"), works=t("clusters.works"))
        return card(going_on, title=title), job.id
    failed = ""
    if job is not None and job.state == State.FAILED:
        failed = note("", t.failure(str(job.reason), job.values), tone="bad")
    return card(failed, tag("p", _lead(done, t), cls="at-soft"), title=title), None


def _lead(done: Job | None, t: Text) -> str:
    if done is None or done.result is None:
        return t("clusters.lead")
    without = done.result["without"]
    found = t("clusters.found", n=len(done.result["clusters"]), rows=number(done.result["looked_at"]))
    return f"{found} {t('clusters.without', n=number(without))}" if without else found


def _examples(version: Version, clusters: Sequence[Mapping[str, Any]]) -> dict[int, Row]:
    try:
        return rows.at(Path(version.path), sorted(place for one in clusters for place in one["rows"]))
    except OSError:  # the Rows view says that the file is gone
        return {}


def _card(place: int, one: Mapping[str, Any], num_rows: int, examples: Mapping[int, Row], t: Text) -> Html:
    known = [_asked(examples[row]) for row in one["rows"] if row in examples]
    aside = t("clusters.rows", n=number(one["count"]), share=share(one["count"], num_rows))
    listed = tag("ul", *(tag("li", _short(text)) for text in known), cls="at-examples")
    return card(listed, title=f"{place} · {' · '.join(one['words'])}", aside=aside)


def _asked(row: Row) -> str:
    """What a row asks at the end; of plain text, the text."""
    turns = row.get("messages") or row.get("prompt") or []
    asked = [str(turn["content"]) for turn in turns if turn["role"] not in ("assistant", "system") and turn["content"]]
    return asked[-1] if asked else str(row.get("text") or "")


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= EXAMPLE_CHARACTERS else f"{line[:EXAMPLE_CHARACTERS]} …"


def propose(ui: Ui, version_id: int, num_clusters: float | None) -> None:
    """Queue a proposal, unless one is on its way.

    Raises:
        ProblemError: the number of clusters is none.
        NotFound: the version is gone.
    """
    with ui.store.write() as session:
        version = datasets.by_id(session, version_id)
        job, _ = dataorders.latest(session, "cluster", version)
        if job is None or job.state in FINAL:
            told = {"data": dataorders.part(version), "clusters": round(num_clusters or 0)}
            dataorders.order(session, "cluster", version.name, told)


def apply(ui: Ui, version_id: int, subject: Subject | None, keep: bool, *names: str | None) -> Html:
    """Queue a version whose rows have the names of their clusters as task types, and say so.

    Raises:
        ProblemError: nothing is named, or all rows have a task type that they are to keep.
        NotFound: the version is gone.
    """
    if subject is None:
        raise ProblemError([problem("data_not_clustered", given="-")])
    key, num_clusters = subject
    told = [name or "" for name in names[:num_clusters]]
    operation = {"kind": "name_clusters", "clustered": key, "names": told, "keep": keep}
    return derivations.give_task_types(ui, version_id, operation)
