"""What the preview child can be asked, one function a question. Tokenizers and renderers are kept by model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from engine.data.plan import plan
from engine.data.render import Renderer
from engine.data.rows import read_rows
from engine.data.tokens import prepare, view
from engine.models.loading import load_tokenizer
from engine.objectives import OBJECTIVES
from engine.runtime.run_data import version_of
from engine.specs.base import Spec, validate
from engine.specs.home import Home
from engine.specs.job import parse
from engine.specs.problem import ProblemError, problem
from engine.specs.starter import STARTER
from storage import datasets, models, targets
from storage.database import Store
from storage.datasets import Version
from storage.errors import Conflict, NotFound
from storage.models import Model

MAX_RENDERERS = 8

Payload = Mapping[str, Any]


class Unknown(LookupError):
    """Nobody can be asked that."""


class Desk:
    """Answers questions. One thread may ask what is quick while another asks what is slow."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home, self._store = home, store
        self._renderers: dict[str, Renderer] = {}

    def warm_up(self) -> None:
        """Import the library and load the starter's tokenizer, so that the first person does not wait."""
        with self._store.read() as session:
            listed = models.listing(session)
        first = sorted(listed, key=lambda model: model.name != STARTER)[:1]
        if not first:
            import transformers  # noqa: F401 - its import is most of the first answer's time

            return
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        for rendered in self._renderer(first[0]).conversation(messages):
            rendered.view()

    def answer(self, kind: str, payload: Payload, *, seen: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Answer a question; `seen` is called before each row of a slow one.

        Raises:
            ProblemError: there is no answer, and why.
            Unknown: there is no such kind of question.
        """
        if kind in SLOW:
            return SLOW[kind](self, payload, seen)
        if kind not in QUESTIONS:
            raise Unknown(kind)
        return QUESTIONS[kind](self, payload)

    def tokens(self, payload: Payload) -> dict[str, Any]:
        """`version_id row model [objective] [max_length]` → the token view of a row."""
        version = self._version(int(payload["version_id"]))
        renderer = self._renderer(self._model(str(payload["model"])))
        row = int(payload["row"])
        found = read_rows(Path(version.path), row, 1) if row >= 0 else []
        if not found:
            raise ProblemError([problem("data_row_missing", field="row", row=row, rows=version.usable_rows)])
        objective = _objective(payload.get("objective"), version.row_kind)
        return {"row": row, **view(found[0], renderer, objective, payload.get("max_length"))}

    def plan(self, payload: Payload, seen: Callable[[], None]) -> dict[str, Any]:
        """`spec` → the numbers of the run card."""
        spec = parse(dict(payload["spec"]))
        with self._store.read() as session:
            version = version_of(session, spec.data)
            start = _start(session, spec.model.start_from)
        model = self._model(spec.model.id)
        renderer = self._renderer(model) if start is None else self._renderer_of(start)
        prepared = prepare(Path(version.path), renderer, spec, self._home.datasets / "tokens", seen=seen)
        facts = {**model.facts, "parameters": model.parameters, "marks_turn_end": renderer.marks_turn_end}
        return plan(spec, prepared, facts)

    def _version(self, version_id: int) -> Version:
        with self._store.read() as session:
            try:
                return datasets.by_id(session, version_id)
            except NotFound as error:
                raise ProblemError([problem("data_not_there", field="data.dataset", given=str(version_id))]) from error

    def _model(self, name: str) -> Model:
        with self._store.read() as session:
            try:
                return models.get(session, name)
            except NotFound as error:
                raise ProblemError([problem("model_not_there", field="model.id", given=name[:100])]) from error

    def _renderer(self, model: Model) -> Renderer:
        return self._renderer_of(model.path)

    def _renderer_of(self, folder: str) -> Renderer:
        known = self._renderers.get(folder)
        if known is None:
            try:
                known = Renderer(load_tokenizer(folder))
            except (OSError, ValueError) as error:
                raise ProblemError(
                    [problem("model_tokenizer_unreadable", field="model.id", detail=str(error)[:200])]
                ) from error
            while len(self._renderers) >= MAX_RENDERERS:
                self._renderers.pop(next(iter(self._renderers)), None)
            self._renderers[folder] = known
        return known


def _objective(section: Any, row_kind: str) -> Spec:
    """The objective's spec as it was asked for, a whole section or its kind; else the first that takes such rows."""
    given = {"kind": section} if isinstance(section, str) else dict(section or {})
    kind = given.get("kind") or next(kind for kind, entry in OBJECTIVES.items() if entry.row_kind == row_kind)
    if kind not in OBJECTIVES:
        allowed = ", ".join(OBJECTIVES)
        raise ProblemError([problem("spec_not_a_choice", field="objective.kind", given=repr(kind), allowed=allowed)])
    return validate(OBJECTIVES[kind].Spec, {**given, "kind": kind}, at="objective")


def _start(session: Any, target: str | None) -> str | None:
    """The folder of the base that an earlier run's checkpoint lies on, whose tokenizer the run will use."""
    if target is None:
        return None
    try:
        return targets.resolve(session, target).base_path
    except (NotFound, Conflict) as error:
        raise ProblemError([problem("model_checkpoint_missing", field="model.start_from", given=target)]) from error


QUESTIONS: dict[str, Callable[[Desk, Payload], dict[str, Any]]] = {
    "tokens": Desk.tokens,
}
SLOW: dict[str, Callable[[Desk, Payload, Callable[[], None]], dict[str, Any]]] = {"plan": Desk.plan}
"""The questions whose answer may take long."""
