"""The views of the Data page that have components of their own beside their text: mixing, task types, files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import gradio as gr

from app import filesview, mixview, taskclusters, taskrules, tasksview
from app.filesview import Files
from app.language import Text
from app.mixview import Mixing
from app.panel import Panel
from app.render import Html
from app.tasksview import Tasks
from app.ui import Ui
from storage.datasets import Version

Updates = dict[Any, Any]
Do = Callable[..., Html | None]
"""What is done with a version, and what there is to say of it."""


@dataclass(frozen=True, slots=True, eq=False)
class Panes:
    """Their components."""

    mixing: Mixing
    tasks: Tasks
    files: Files

    @property
    def all(self) -> list[Any]:
        return [*self.mixing.all, *self.tasks.all, *self.files.all]


class Order(Protocol):
    """Wires a button to what is done with the version that is shown."""

    def __call__(self, button: gr.Button, do: Do, more: Sequence[Any], said: Panel, *, redraws: bool) -> None:
        """`do` gets the id of the version and the values of `more`; `said` shows what it returns or refuses.

        With `redraws` the view is drawn anew; else what stands in its form stays.
        """
        ...


def build(t: Text) -> Panes:
    """Lay the components out, hidden."""
    return Panes(mixview.build(t), tasksview.build(t), filesview.build(t))


def show(ui: Ui, panes: Panes, version: Version | None, view: str) -> Updates:
    """Draw the components of a view, and hide the others."""
    return {
        **mixview.show(ui, panes.mixing, version, view),
        **tasksview.show(ui, panes.tasks, version, view),
        **filesview.show(panes.files, version, view),
    }


def wire(ui: Ui, panes: Panes, drawn: gr.State, order: Order) -> None:
    """Connect the components; `drawn` holds name and id of the version that is shown."""
    mixing, clusters, rules, files = panes.mixing, panes.tasks.clusters, panes.tasks.rules, panes.files
    mixview.wire(ui, mixing, drawn)
    taskrules.wire(rules)
    named = [clusters.subject, clusters.keep, *clusters.names]
    order(mixing.mix, partial(mixview.make, ui), [mixing.name, *mixing.settings], mixing.said, redraws=False)
    order(clusters.propose, partial(taskclusters.propose, ui), [clusters.number], clusters.said, redraws=True)
    order(clusters.apply, partial(taskclusters.apply, ui), named, clusters.said, redraws=False)
    order(rules.apply, partial(taskrules.apply, ui), [rules.keep, *rules.values], rules.said, redraws=False)
    order(files.write, partial(filesview.write, ui), [files.form], files.said, redraws=True)
