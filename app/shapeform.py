"""The shape of a file, put right by hand: its format, and which column plays which role. Then it is read again."""

from __future__ import annotations

import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from app import staging, uploads
from app.language import Text
from app.panel import Panel
from app.render import Html, join, tag
from app.ui import Ui
from engine.formats import FORMATS
from engine.formats.columns import SHARED, find_columns
from engine.formats.protocol import Format
from engine.specs.base import validate
from engine.specs.home import inside
from engine.specs.other import ImportSpec
from engine.specs.problem import Problem, ProblemError, problem
from storage import datasets, jobs
from storage.datasets import Version
from storage.errors import NotFound
from storage.jobs import Job
from storage.states import State

MOST_ROLES = max(len({**entry.roles, **SHARED}) for entry in FORMATS.values())
MOST_OPTIONS = max(len(entry.options) for entry in FORMATS.values())
NOTHING = ""
Updates = dict[Any, Any]
Subject = tuple[str, int]
"""`version` or `import`, and its id."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a file that can be read again. Without a format, none was recognised."""

    subject: Subject
    path: Path
    columns: Sequence[str]
    spec: Mapping[str, Any]
    """What an import of it is told, but where it lies."""
    confidence: float = 0.0
    reasons: Sequence[Problem] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, eq=False)
class ShapeForm:
    """Its components."""

    box: gr.Accordion
    told: Panel
    format: gr.Dropdown
    roles: Sequence[gr.Dropdown]
    options: Sequence[gr.Textbox]
    again: gr.Button
    subject: gr.State

    @property
    def all(self) -> list[Any]:
        return [self.box, self.told, self.format, *self.roles, *self.options, self.subject]


def build(t: Text) -> ShapeForm:
    """Lay the form out, hidden."""
    with gr.Accordion(t("shape.title"), open=False, visible=False, elem_id="shape") as box:
        told = Panel(elem_id="shape-told")
        format = gr.Dropdown(
            [(t(f"format.{kind}"), kind) for kind in FORMATS], label=t("shape.format"), elem_id="shape-format"
        )
        with gr.Row(elem_classes=["at-tools"]):
            roles = [gr.Dropdown([], visible=False, min_width=160) for _ in range(MOST_ROLES)]
        options = [gr.Textbox(visible=False, lines=2) for _ in range(MOST_OPTIONS)]
        again = gr.Button(t("shape.again"), elem_id="shape-again", size="md")
    return ShapeForm(box, told, format, roles, options, again, gr.State())


def of_version(version: Version) -> Known | None:
    """What is known of the file that a version came from; None where it is not kept or was read by an older studio."""
    found = version.statistics.get("recognition")
    path = Path(version.path).parent / f"source.{version.statistics.get('container')}"
    if not found or not path.is_file():
        return None
    spec = {
        "name": version.name,
        "source_name": version.source_name,
        "format": version.format,
        "mapping": version.mapping,
        "options": found["options"],
        "policy": version.policy,
    }
    reasons = [Problem.from_dict(one) for one in found["reasons"]]
    return Known(("version", version.id), path, found["columns"], spec, found["confidence"], reasons)


def of_import(ui: Ui, job: Job) -> Known | None:
    """What is known of an upload whose columns were not recognised, as long as it is there."""
    found = next((one for one in job.values.get("problems", []) if one["values"].get("names")), None)
    path = inside(ui.home.staging, str(job.spec.get("staged") or "-"))
    if job.state != State.FAILED or found is None or not path.is_file():
        return None
    return Known(("import", job.id), path, found["values"]["names"], {**job.spec, "staged": None})


def known(ui: Ui, subject: Subject | None) -> Known | None:
    """The same by its subject."""
    if subject is None:
        return None
    kind, number = subject
    try:
        with ui.store.read() as session:
            if kind == "version":
                return of_version(datasets.by_id(session, number))
            return of_import(ui, jobs.get(session, number))
    except NotFound:
        return None


def show(ui: Ui, form: ShapeForm, found: Known | None) -> Updates:
    """Draw what is known of a file."""
    if found is None:
        return {**{one: gr.skip() for one in form.all}, form.box: gr.update(visible=False), form.subject: None}
    kind = found.spec.get("format")
    first = kind or _likeliest(found.columns)
    title = ui.t("shape.is", format=ui.t(f"format.{kind}")) if kind else ui.t("shape.unknown")
    return {
        form.box: gr.update(visible=True, label=title, open=kind is None),
        form.told: _told(found, ui.t),
        form.format: gr.update(value=first),
        form.subject: found.subject,
        **_fields(ui, form, found, first),
    }


def choose(ui: Ui, form: ShapeForm, subject: Subject | None, kind: str) -> Updates:
    """Show the roles and options of another format."""
    found = known(ui, subject)
    return {} if found is None or kind not in FORMATS else _fields(ui, form, found, kind)


def read_again(ui: Ui, subject: Subject | None, kind: str, values: Sequence[str | None]) -> Job:
    """Queue another import of the file, read as it was said.

    Raises:
        ProblemError: the file is gone, or what was said does not fit.
    """
    found = known(ui, subject)
    if found is None:
        raise ProblemError([problem("file_gone", field="staged", name="")])
    entry = FORMATS[kind]
    roles, options = _roles(entry), list(entry.options)
    mapping = {role: value or NOTHING for role, value in zip(roles, values[:MOST_ROLES], strict=False)}
    told = {name: value or "" for name, value in zip(options, values[MOST_ROLES:], strict=False)}
    missing = [role for role in entry.required if not mapping.get(role)]
    if missing:
        names = ", ".join(found.columns)
        raise ProblemError(
            [
                problem("data_role_missing", field=f"mapping.{one}", role=one, format=kind, columns=names)
                for one in missing
            ]
        )
    data = {**found.spec, "format": kind, "mapping": mapping, "options": told}
    validate(ImportSpec, {**data, "staged": "-"})
    return uploads.queue(ui, {**data, "staged": _staged(ui, found.path)})


def _staged(ui: Ui, path: Path) -> str:
    """A staged file with the same content, without a copy where the disk can do without."""
    name = uuid.uuid4().hex
    try:
        os.link(path, ui.home.staging / name)
        os.utime(ui.home.staging / name)  # else it looks like an upload of long ago that nobody imported
    except OSError:
        return staging.stage(ui.home, path)
    return name


def _told(found: Known, t: Text) -> Html:
    if not found.reasons:
        return tag("p", t("shape.lead"), cls="at-soft at-small")
    sure = t("shape.sure", percent=round(100 * found.confidence))
    return join(
        [
            tag("p", sure, cls="at-small"),
            *(tag("p", t.problem(one)[0], cls="at-soft at-small") for one in found.reasons),
        ]
    )


def _fields(ui: Ui, form: ShapeForm, found: Known, kind: str) -> Updates:
    entry, t = FORMATS[kind], ui.t
    same = kind == found.spec.get("format")
    mapping = found.spec["mapping"] if same else find_columns([dict.fromkeys(found.columns)], _roles(entry))
    choices = [(t("shape.no_column"), NOTHING), *((name, name) for name in found.columns)]
    updates: Updates = {one: gr.update(visible=False, value=None) for one in (*form.roles, *form.options)}
    for component, role in zip(form.roles, _roles(entry), strict=False):
        label = t(f"shape.role.{role}") + (" *" if role in entry.required else "")
        value = mapping.get(role, NOTHING)
        updates[component] = gr.update(visible=True, label=label, choices=choices, value=value)
    for text, (name, default) in zip(form.options, entry.options.items(), strict=False):
        value = found.spec.get("options", {}).get(name, default) if same else default
        updates[text] = gr.update(
            visible=True,
            label=t(f"import.option.{kind}.{name}.label"),
            info=t(f"import.option.{kind}.{name}.help"),
            value=value,
        )
    return updates


def _roles(entry: Format) -> dict[str, Sequence[str]]:
    return {**entry.roles, **SHARED}


def _likeliest(columns: Sequence[str]) -> str:
    """The format of which most columns are there; of none, the one that any two columns of text can have."""
    raw = [dict.fromkeys(columns)]
    found = {kind: len(set(entry.required) & set(find_columns(raw, entry.roles))) for kind, entry in FORMATS.items()}
    return max(found, key=lambda kind: found[kind]) if any(found.values()) else "prompt_completion"
