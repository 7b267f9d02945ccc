"""Chains of runs: from what a person wrote to stages in the store, and back to one YAML."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from app import beside, overlay, recipe, submission
from engine.objectives import OBJECTIVES
from engine.specs.base import validate
from engine.specs.chain import SECTIONS, ChainSpec
from engine.specs.heads import other_head
from engine.specs.job import parse
from engine.specs.problem import Problem, ProblemError, Where, problem
from engine.specs.starting import way_of
from engine.tuners import TUNERS
from storage import chains, stages
from storage.chains import Chain, NewStage, Stage

FOLLOWS = ("start_from", "id", "revision")
"""What a later stage has from the one before it."""


def prepare(session: Session, data: Mapping[str, Any]) -> tuple[str, list[NewStage]]:
    """Build the stages of a chain from untrusted data; settings that a stage does not name get their advised values.

    Raises:
        ProblemError: with every problem of every stage.
    """
    spec = validate(ChainSpec, data)
    found: list[NewStage] = []
    problems: list[Problem] = []
    for place, one in enumerate(spec.stages):
        try:
            problems += _elsewhere(spec, place)
            made = stage(session, one.name, spec.run(place), found[0].spec if found else None)
            problems += [_within(one.name, item) for item in _misfits(made, found[-1])] if found else []
            found.append(made)
        except ProblemError as error:
            problems += [_within(one.name, item) for item in error.problems]
            if not found:  # the later ones stand on the model of the first
                break
    if problems:
        raise ProblemError(problems)
    return spec.name, found


def stage(session: Session, name: str, run: Mapping[str, Any], first: Mapping[str, Any] | None) -> NewStage:
    """Build one stage; `first` is the spec of the chain's first one, None where this is it.

    Raises:
        ProblemError: with every problem of its run.
    """
    wanted = copy.deepcopy(dict(run))
    if first is not None:
        wanted["model"] = {**(wanted.get("model") or {}), **_origin(first)}
    ready = submission.prepare(session, {**wanted, "name": name})
    beside.keep(session, ready)
    return NewStage(name, ready.model_dump(mode="json"))


def _misfits(one: NewStage, former: NewStage) -> list[Problem]:
    """What keeps a stage from starting on the result of the one before it."""
    spec, before = parse(one.spec), parse(former.spec)
    head = OBJECTIVES[before.objective.kind].head
    if found := other_head(spec, target=former.name, head=head, has_adapter=TUNERS[before.tuner.kind].is_adapter):
        return [found]
    if not TUNERS[before.tuner.kind].is_adapter:
        return []
    return way_of(spec, former.spec, before.model.quantization, former.name)[1]


def _origin(first: Mapping[str, Any]) -> dict[str, Any]:
    return {"start_from": None, "id": first["model"]["id"], "revision": first["model"].get("revision")}


def changed(session: Session, one: Stage, run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of a stage with these settings in place of its own.

    Raises:
        ProblemError: with every problem of its run.
    """
    others = chains.stages(session, one.chain_id)
    first = others[0].spec if one.place else None
    return stage(session, one.name, run, first).spec


def with_settings(run: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return a run with `a.b=value` put in; another dataset is taken in its newest version if none is named.

    Raises:
        ProblemError: a setting is not KEY=VALUE, or leads into something that is no section.
    """
    keys = {one.partition("=")[0] for one in settings}
    wanted = overlay.changed(copy.deepcopy(dict(run)), settings)
    if keys & {"data.dataset", "data.version"}:
        wanted["data"].pop("sha256", None)
        if "data.version" not in keys:
            wanted["data"].pop("version", None)
    return wanted


def create(session: Session, data: Mapping[str, Any], *, going: bool) -> Chain:
    """Make a chain from untrusted data; if it is to go, its first stage is in the queue at once.

    Raises:
        ProblemError: with every problem of every stage.
    """
    name, found = prepare(session, data)
    made = chains.create(session, name, found, going=going)
    if going:
        stages.advance(session, made.id)
    return made


def find(session: Session, text: str) -> Chain:
    """Return the chain of an id, or the newest of a name.

    Raises:
        NotFound: there is none.
    """
    return chains.get(session, int(text)) if text.isdecimal() else chains.named(session, text)


def stage_of(session: Session, chain_id: int, text: str) -> Stage:
    """Return the stage of a name or of a number from 1 on.

    Raises:
        ProblemError: there is none.
    """
    found = chains.stages(session, chain_id)
    for one in found:
        if text in (one.name, str(one.place + 1)):
            return one
    raise ProblemError([problem("stage_unknown", given=text, allowed=", ".join(one.name for one in found) or "–")])


def as_yaml(one: Chain, found: Sequence[Stage]) -> str:
    """Return the chain as one file: what all stages share at the top, what each has of its own below."""
    shared = _shared([item.spec for item in found])
    own = [{"name": item.name, **_without(item.spec, shared, is_first=item.place == 0)} for item in found]
    return recipe.as_yaml({"name": one.name, **shared, "stages": [recipe.without_empty(item) for item in own]})


def _shared(specs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What is equal in all of them; a section of different kinds shares nothing."""
    if not specs:
        return {}
    first = specs[0]
    found: dict[str, Any] = {"seed": first["seed"]} if all(one["seed"] == first["seed"] for one in specs) else {}
    for name in SECTIONS:
        found[name] = _equal([one[name] for one in specs])
    found["model"].pop("start_from", None)
    return {name: value for name, value in found.items() if value != {}}


def _equal(sections: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    if len({one.get("kind") for one in sections}) > 1:
        return {}
    first, *others = sections
    return {key: value for key, value in first.items() if all(key in one and one[key] == value for one in others)}


def _without(spec: Mapping[str, Any], shared: Mapping[str, Any], *, is_first: bool) -> dict[str, Any]:
    found: dict[str, Any] = {} if "seed" in shared else {"seed": spec["seed"]}
    for name in SECTIONS:
        common = shared.get(name, {})
        section = {key: value for key, value in spec[name].items() if key not in common}
        if name == "model" and not is_first:
            section = {key: value for key, value in section.items() if key not in FOLLOWS}
        if section:
            found[name] = section
    return found


def _elsewhere(spec: ChainSpec, place: int) -> list[Problem]:
    """A later stage says itself what it starts from."""
    own = spec.stages[place].model or {}
    named = [key for key in FOLLOWS if place and own.get(key) is not None]
    at = spec.stages[place].name
    return [problem("stage_starts_elsewhere", field=f"stages.{at}.model.{key}", given=str(own[key])) for key in named]


def _within(name: str, found: Problem) -> Problem:
    field = ".".join(part for part in ("stages", name, found.where.field) if part)
    return Problem(found.code, Where(field, found.where.line), found.values)
