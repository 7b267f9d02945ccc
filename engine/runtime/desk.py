"""What the preview child can be asked, one function a question. Tokenizers and renderers are kept by model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data.packing import view_packed
from engine.data.plan import plan
from engine.data.render import Renderer
from engine.data.room import UNBOUNDED, Room
from engine.data.rows import read_rows
from engine.data.token_lengths import measure
from engine.data.tokens import Prepared, prepare, view
from engine.models.chat_templates import OWN
from engine.models.loading import load_tokenizer
from engine.objectives import OBJECTIVES
from engine.runtime.fitting import Here
from engine.runtime.run_data import sources_of
from engine.specs.base import Spec, validate, words
from engine.specs.home import Home
from engine.specs.job import JobSpec, parse
from engine.specs.problem import ProblemError, problem
from engine.specs.starter import STARTER
from storage import datasets, models, targets
from storage.database import Store
from storage.datasets import Version
from storage.errors import Conflict, NotFound
from storage.models import Model
from storage.targets import Target

MAX_RENDERERS = 8

Payload = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Reading:
    """A model's renderer with the chat template in use: `template` is its name, `added` ours if there was none."""

    renderer: Renderer
    template: str
    added: str | None

    def told(self) -> dict[str, Any]:
        """What an answer says of the template; the model's own is not ours to show."""
        text = None if self.template == "model" else self.renderer.template
        return {"template": self.template, "added": self.added is not None, "template_text": text}


class Unknown(LookupError):
    """Nobody can be asked that."""


class Desk:
    """Answers questions. One thread may ask what is quick while another asks what is slow."""

    def __init__(self, home: Home, store: Store) -> None:
        self._home, self._store = home, store
        self._readings: dict[tuple[str, str, str | None, tuple[str, ...]], Reading] = {}

    def warm_up(self) -> None:
        """Import the library and load the starter's tokenizer, so that the first person does not wait."""
        with self._store.read() as session:
            listed = models.listing(session)
        first = sorted(listed, key=lambda model: model.name != STARTER)[:1]
        if not first:
            import transformers  # noqa: F401 - its import is most of the first answer's time

            return
        messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        for rendered in self._reading(first[0].path).renderer.conversation(messages):
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
        """`version_id row model [objective] [max_length] [truncation] [chat_template] [add_tokens]` → the token view of
        a row.

        `template` names the chat template: `model` for the model's own, else the one of ours that is used; `added`
        says whether the model has none, `template_text` is what ours writes.
        """
        version = self._version(int(payload["version_id"]))
        reading = self._asked(payload)
        row = int(payload["row"])
        found = read_rows(Path(version.path), row, 1) if row >= 0 else []
        if not found:
            raise ProblemError([problem("data_row_missing", field="row", row=row, rows=version.usable_rows)])
        objective = _objective(payload.get("objective"), version.row_kind)
        return {"row": row, **reading.told(), **view(found[0], reading.renderer, objective, _room(payload))}

    def lengths(self, payload: Payload, seen: Callable[[], None]) -> dict[str, Any]:
        """`version_id model [objective] [max_length] [truncation] [chat_template] [add_tokens]` → how many tokens rows,
        prompts and answers have, of all rows or of a sample (`counted` of `rows`), and what the longest would cut."""
        version = self._version(int(payload["version_id"]))
        reading = self._asked(payload)
        objective = _objective(payload.get("objective"), version.row_kind)
        cache = self._home.datasets / "tokens"
        found = measure(Path(version.path), reading.renderer, objective, cache, seen=seen)
        return {"template": reading.template, **found.as_dict(), "cut": found.cut(_room(payload))}

    def packed(self, payload: Payload, seen: Callable[[], None]) -> dict[str, Any]:
        """`spec index` → one of the packed sequences that the run would train, and where its rows begin."""
        spec = parse(dict(payload["spec"]))
        reading, prepared = self._prepared(spec, seen)
        index = int(payload["index"])
        try:
            shown = view_packed(prepared.train_path, spec.data.max_length, index, reading.renderer)
            return {**reading.told(), **shown}
        except IndexError as error:
            raise ProblemError([problem("data_row_missing", field="index", row=index, rows=error.args[0])]) from error

    def plan(self, payload: Payload, seen: Callable[[], None]) -> dict[str, Any]:
        """`spec` → the numbers of the run card."""
        spec = parse(dict(payload["spec"]))
        model = self._model(spec.model.id)
        reading, prepared = self._prepared(spec, seen)
        facts = {**model.facts, "parameters": model.parameters, "marks_turn_end": reading.renderer.marks_turn_end}
        facts |= _grown(facts, len(spec.model.new_tokens))
        kind = "cuda" if Here.of(self._home).has_gpu and spec.resources.devices != "cpu" else "cpu"
        return plan(spec, prepared, {**facts, "template_added": reading.added, "device": kind})

    def _prepared(self, spec: JobSpec, seen: Callable[[], None]) -> tuple[Reading, Prepared]:
        with self._store.read() as session:
            sources = sources_of(session, spec.data)
            start = _start(session, spec.model.start_from)
        base = self._model(spec.model.id).path if start is None else start.base_path
        model = spec.model
        reading = self._reading(base, model.chat_template, start.adapter_path if start else None, model.new_tokens)
        cache = self._home.datasets / "tokens"
        return reading, prepare(sources.main, reading.renderer, spec, cache, mixed_in=sources.mixed_in, seen=seen)

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

    def _asked(self, payload: Payload) -> Reading:
        """The renderer of the model and the template that a question names."""
        new_tokens = words(payload.get("add_tokens"))
        chat_template = str(payload.get("chat_template") or OWN)
        return self._reading(self._model(str(payload["model"])).path, chat_template, new_tokens=new_tokens)

    def _reading(
        self, folder: str, chat_template: str = OWN, adapter: str | None = None, new_tokens: tuple[str, ...] = ()
    ) -> Reading:
        key = (folder, chat_template, adapter, new_tokens)
        known = self._readings.get(key)
        if known is None:
            try:
                how: dict[str, Any] = {"chat_template": chat_template, "new_tokens": new_tokens}
                tokenizer = load_tokenizer(folder, adapter=Path(adapter) if adapter else None, **how)
                added = tokenizer.atelier_template
                shown = added or ("model" if chat_template == OWN else chat_template)
                known = Reading(Renderer(tokenizer), shown, added)
            except (OSError, ValueError) as error:
                raise ProblemError(
                    [problem("model_tokenizer_unreadable", field="model.id", detail=str(error)[:200])]
                ) from error
            while len(self._readings) >= MAX_RENDERERS:
                self._readings.pop(next(iter(self._readings)), None)
            self._readings[key] = known
        return known


def _objective(section: Any, row_kind: str) -> Spec | None:
    """The objective's spec as it was asked for, a whole section or its kind; else the first that takes such rows."""
    given = {"kind": section} if isinstance(section, str) else dict(section or {})
    fitting = [kind for kind, entry in OBJECTIVES.items() if row_kind in entry.row_kinds]
    kind = given.get("kind") or next(iter(fitting), None)
    if kind is None:
        return None
    if kind not in OBJECTIVES:
        allowed = ", ".join(OBJECTIVES)
        raise ProblemError([problem("spec_not_a_choice", field="objective.kind", given=repr(kind), allowed=allowed)])
    return validate(OBJECTIVES[kind].Spec, {**given, "kind": kind}, at="objective")


def _grown(facts: Mapping[str, Any], count: int) -> dict[str, Any]:
    """The facts of a model that differ once it has this many more tokens."""
    if not count:
        return {}
    width = int(facts["hidden_size"] or 0) * (1 if facts.get("tied", True) else 2)
    return {"new_tokens": count, "parameters": facts["parameters"] + count * width}


def _room(payload: Payload) -> Room:
    return Room(payload.get("max_length") or UNBOUNDED, str(payload.get("truncation") or "auto"))


def _start(session: Any, target: str | None) -> Target | None:
    """The earlier run's checkpoint, whose base and template the run will use."""
    if target is None:
        return None
    try:
        return targets.resolve(session, target)
    except (NotFound, Conflict) as error:
        raise ProblemError([problem("model_checkpoint_missing", field="model.start_from", given=target)]) from error


QUESTIONS: dict[str, Callable[[Desk, Payload], dict[str, Any]]] = {
    "tokens": Desk.tokens,
}
SLOW: dict[str, Callable[[Desk, Payload, Callable[[], None]], dict[str, Any]]] = {
    "plan": Desk.plan,
    "packed": Desk.packed,
    "lengths": Desk.lengths,
}
"""The questions whose answer may take long."""
