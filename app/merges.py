"""Merges: what can be merged how, and the jobs that do it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy.orm import Session

from engine.merging import MERGES
from engine.merging.protocol import Merge
from engine.specs.base import validate
from engine.specs.kinds import KINDS
from engine.specs.merge import MergeSpec
from engine.specs.problem import ProblemError, problem
from engine.tuners import TUNERS
from storage import checkpoints, datasets, jobs, targets
from storage.datasets import Version
from storage.errors import Conflict, NotFound
from storage.jobs import Job, SubmitOptions
from storage.states import State
from storage.targets import BASE, Target

KIND = "merge"
LANGUAGE = "language"
LEAST = 2


def prepare(session: Session, data: Mapping[str, Any]) -> MergeSpec:
    """Build the spec of a merge from untrusted data: sources become exact, what is not named gets its value.

    `sources` are `{"target", "weight"}` with any target; `data` names a dataset, and a version if not the newest.

    Raises:
        ProblemError: with what is wrong.
    """
    wanted = copy.deepcopy(dict(data))
    if isinstance(wanted.get("method"), str):
        wanted["method"] = {"kind": wanted["method"]}
    method = _method(wanted)
    given = wanted.get("sources")
    found = _found(session, given if isinstance(given, list) else [], method)
    wanted["sources"] = [
        {"target": one.text, "weight": weight, "data": _learned(session, one)} for one, weight in found
    ]
    sources = [one for one, _ in found]
    if len(sources) < LEAST:
        raise ProblemError([problem("merge_too_few", field="sources", given=len(sources), least=LEAST)])
    wanted["model"] = _model(session, sources[0])
    wanted["data"] = _named(session, wanted.get("data"))
    wanted["form"] = _form(wanted.get("form") or "auto", sources, method)
    spec = validate(MergeSpec, wanted)
    _check(session, spec, sources, MERGES[spec.method.kind])
    return spec


def weighted(targets: Sequence[str], weights: str | None) -> list[dict[str, Any]]:
    """Return the sources with their weights, "0.7, 0.3"; they are equal where none are given.

    Raises:
        ProblemError: they are no numbers, or not as many as targets.
    """
    try:
        counts = [1.0] * len(targets) if weights is None else [float(one) for one in weights.split(",")]
    except ValueError:
        counts = []
    if len(counts) != len(targets):
        raise ProblemError([problem("usage_weights", given=weights, count=len(targets))])
    return [{"target": text, "weight": count} for text, count in zip(targets, counts, strict=True)]


def submit(session: Session, data: Mapping[str, Any]) -> Job:
    """Queue a merge; while the very same one waits or runs, that one is returned. Its sources are kept.

    Raises:
        ProblemError: with what is wrong.
    """
    spec = prepare(session, data)
    told = spec.model_dump(mode="json")
    under_way = jobs.listing(session, kinds=[KIND], states=[State.QUEUED, State.RUNNING])
    same = next((one for one in under_way if one.spec == told), None)
    if same is not None:
        return same
    parent_id = None
    for one in spec.sources:
        target = targets.resolve(session, one.target)
        if target.job_id is not None and target.step is not None:
            checkpoints.pin(session, target.job_id, target.step)
            parent_id = parent_id or target.job_id
    options = SubmitOptions(parent_id=parent_id)
    return jobs.submit(session, kind=KIND, name=spec.name, spec=told, lane=KINDS[KIND].lane, options=options)


def _method(wanted: Mapping[str, Any]) -> Merge | None:
    section = wanted.get("method")
    kind = section.get("kind") if isinstance(section, dict) else None
    return MERGES.get(kind) if isinstance(kind, str) else None


def _found(session: Session, given: Sequence[Any], method: Merge | None) -> list[tuple[Target, Any]]:
    """The targets with their weights; one run alone stands for its checkpoints where the method wants those."""
    named = [(str(one.get("target", "")), one.get("weight", 1.0)) for one in given if isinstance(one, dict)]
    if method is not None and method.of_one_run and len(named) == 1:
        named = [(text, 1.0) for text in _of_run(session, named[0][0])][-method.most :]
    found = []
    for place, (text, weight) in enumerate(named):
        try:
            found.append((targets.resolve(session, text), weight))
        except (NotFound, Conflict) as error:
            raise ProblemError([problem("merge_source_missing", field=f"sources.{place}", given=text)]) from error
    if method is not None and method.of_one_run:
        found.sort(key=lambda one: one[0].step or 0)
    return found


def _of_run(session: Session, text: str) -> list[str]:
    if not text.isdecimal():
        return [text]
    saved = checkpoints.listing(session, int(text))
    alike = [one for one in saved if one.step and one.is_adapter == saved[-1].is_adapter]  # not a base of the run's own
    return [f"{one.job_id}@{one.step}" for one in alike] or [text]


def _model(session: Session, first: Target) -> dict[str, Any]:
    if first.job_id is None:
        return {"id": first.text.removeprefix(BASE)}
    model = jobs.get(session, first.job_id).spec["model"]
    return {"id": model["id"], "revision": model.get("revision")}


def _named(session: Session, given: Any) -> dict[str, Any] | None:
    """The dataset version that a person named."""
    told = given if isinstance(given, dict) else {"dataset": given} if isinstance(given, str) else None
    if told is None:
        return None
    name, number = str(told.get("dataset")), told.get("version")
    try:
        return _part(datasets.get(session, name, number if isinstance(number, int) else None))
    except NotFound as error:
        raise ProblemError([problem("data_not_there", field="data.dataset", given=name)]) from error


def _learned(session: Session, one: Target) -> dict[str, Any] | None:
    """The dataset version that a source learned from; None where it is gone, or the source was not trained here."""
    said = {} if one.job_id is None else jobs.get(session, one.job_id).spec.get("data") or {}
    if said.get("sha256"):
        return {key: said[key] for key in ("dataset", "version", "sha256")}
    try:  # an older run knows the name alone
        return _part(datasets.get(session, str(said.get("dataset")), said.get("version")))
    except NotFound:
        return None


def _part(version: Version) -> dict[str, Any]:
    return {"dataset": version.name, "version": version.version, "sha256": version.sha256}


def _form(wanted: str, sources: Sequence[Target], method: Merge | None) -> str:
    if wanted != "auto":
        return wanted
    exact = method is not None and method.keeps_rank
    return "adapter" if exact and fits_adapters(sources) else "weights"


def fits_adapters(sources: Sequence[Target]) -> bool:
    """Whether all are adapters on the very same base."""
    bases = {(one.base_path, one.quantization) for one in sources}
    return bool(sources) and all(one.adapter_path for one in sources) and len(bases) == 1


def _check(session: Session, spec: MergeSpec, sources: Sequence[Target], method: Merge) -> None:
    """Refuse what the job would fail on at once."""
    found = []
    if spec.form == "adapter" and not fits_adapters(sources):
        found.append(problem("merge_other_base", field="form"))
    if method.needs_rows and spec.data is None and any(one.data is None for one in spec.sources):
        found.append(problem("merge_needs_rows", field="data", method=method.kind))
    origins = {str(_model(session, one)["id"]) for one in sources}
    if method.of_changes(spec.method) and spec.base is None and len(origins) > 1:
        values: dict[str, Any] = {"method": method.kind, "models": ", ".join(sorted(origins))}
        found.append(problem("merge_no_common_base", field="base", **values))
    for place, one in enumerate(sources):
        if one.job_id is None or one.step is None:
            continue
        field = f"sources.{place}"
        if checkpoints.get(session, one.job_id, one.step).head != LANGUAGE:
            found.append(problem("merge_other_head", field=field, given=one.text))
        kind = (jobs.get(session, one.job_id).spec.get("tuner") or {}).get("kind")
        if one.adapter_path is not None and kind in TUNERS and not TUNERS[kind].merges:
            found.append(problem("merge_tuner_cannot", field=field, given=one.text, tuner=kind))
    if found:
        raise ProblemError(found)
