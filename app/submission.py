"""From what a person wrote to a run in the queue: what is missing is filled in, what cannot work is refused."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from sqlalchemy.orm import Session

from app import beside, devices
from engine.advice import defaults
from engine.objectives import OBJECTIVES
from engine.specs.heads import other_head
from engine.specs.job import MOST_VERSIONS, JobSpec, parse
from engine.specs.kinds import KINDS
from engine.specs.problem import Problem, ProblemError, problem
from engine.specs.starter import STARTER
from engine.specs.starting import way_of
from storage import checkpoints, datasets, jobs, models, targets
from storage.datasets import Version
from storage.errors import Conflict, NotFound
from storage.jobs import Job, SubmitOptions
from storage.models import Model
from storage.targets import Target

VERSION: TypeAdapter[int | None] = TypeAdapter(Annotated[int, Field(le=MOST_VERSIONS)] | None)


def prepare(session: Session, data: Mapping[str, Any]) -> JobSpec:
    """Build the spec of a run from untrusted data; settings that it does not name get their advised values.

    Raises:
        ProblemError: with every problem of the spec, or what it names and is not there.
    """
    wanted = _copied(data)
    version = _version(session, wanted)
    if version is not None:
        wanted["data"] |= {"version": version.version, "sha256": wanted["data"].get("sha256") or version.sha256}
    second = _second(session, wanted["data"])
    start = _start(session, wanted)
    model = _model(session, wanted)
    if model is not None and wanted["model"].get("revision") is None:
        wanted["model"]["revision"] = model.facts.get("revision")
    facts = {
        **_facts(wanted, version),
        "parameters": model.parameters if model else None,
        "device": devices.kind(devices.found(session)),
    }
    spec = parse(defaults.complete(wanted, facts))
    if version is None:
        raise ProblemError([problem("spec_missing_field", field="data.dataset", given="", allowed="", detail="")])
    _check(session, spec, [one for one in (version, second) if one is not None], start)
    return beside.exact(session, spec)


def submit(session: Session, spec: JobSpec, options: SubmitOptions = jobs.DEFAULTS) -> Job:
    """Queue a run; the same key gives the same job. The checkpoints that it builds on are kept.

    Of the options, the spec decides the budget of attempts and the run that it builds on.

    Raises:
        NotFound, Conflict: that checkpoint is not there.
    """
    parent_id = None
    if spec.model.start_from is not None:
        start = targets.resolve(session, spec.model.start_from)
        assert start.job_id is not None and start.step is not None
        checkpoints.pin(session, start.job_id, start.step)
        parent_id = start.job_id
    beside.keep(session, spec)
    options = replace(options, max_attempts=spec.resources.max_attempts, parent_id=parent_id)
    lane = KINDS["train"].lane
    return jobs.submit(
        session, kind="train", name=spec.name, spec=spec.model_dump(mode="json"), lane=lane, options=options
    )


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy whose sections are dicts of their own, as far as they are any."""
    wanted = copy.deepcopy(dict(data))
    for section in ("model", "data", "objective", "tuner", "training", "resources"):
        if wanted.get(section) is None:
            wanted[section] = {}
    wanted["objective"] = _kind(wanted["objective"], "sft")
    wanted["tuner"] = _kind(wanted["tuner"], "lora")
    return wanted


def _kind(section: Any, default: str) -> Any:
    return {"kind": default, **section} if isinstance(section, dict) else section


def _named(section: Any, field: str, default: str | None = None) -> str | None:
    """What a section names, as the spec will read it: a number is a text too."""
    found = section.get(field, default) if isinstance(section, dict) else None
    return str(found) if isinstance(found, str | int | float) and not isinstance(found, bool) else None


def _dataset(session: Session, section: Any, field: str, number_field: str) -> Version | None:
    """The version that a section names, else the newest; None where the spec itself will refuse what it names."""
    name = _named(section, field)
    if name is None:
        return None
    try:
        return datasets.get(session, name, VERSION.validate_python(section.get(number_field)))
    except ValidationError:
        return None
    except NotFound as error:
        raise ProblemError([problem("data_not_there", field=f"data.{field}", given=str(error.id))]) from error


def _version(session: Session, wanted: Mapping[str, Any]) -> Version | None:
    return _dataset(session, wanted["data"], "dataset", "version")


def _second(session: Session, section: Any) -> Version | None:
    """The dataset that is mixed in; its version and hash are filled in."""
    found = _dataset(session, section, "mix_in", "mix_in_version")
    if found is None:
        return None
    section |= {"mix_in_version": found.version, "mix_in_sha256": section.get("mix_in_sha256") or found.sha256}
    return found


def _start(session: Session, wanted: Mapping[str, Any]) -> Target | None:
    """Find the checkpoint that the run starts from; name it exactly, and the model that it was trained on."""
    section = wanted["model"]
    text = _named(section, "start_from")
    if text is None:
        return None
    try:
        found = targets.resolve(session, text)
    except (NotFound, Conflict):
        return None
    if found.job_id is not None:
        section |= {"start_from": found.text, "id": jobs.get(session, found.job_id).spec["model"]["id"]}
    return found


def _facts(wanted: Mapping[str, Any], version: Version | None) -> dict[str, Any]:
    def of(section: str, name: str, default: Any = None) -> Any:
        found = wanted[section]
        return found.get(name, default) if isinstance(found, dict) else default

    return {
        "objective": of("objective", "kind"),
        "tuner": of("tuner", "kind"),
        "quantization": of("model", "quantization", "none"),
        "optimizer": of("training", "optimizer", "adamw"),
        "num_rows": version.usable_rows if version else 0,
    }


def _model(session: Session, wanted: Mapping[str, Any]) -> Model | None:
    """The model; None where it is not there, which a later check says."""
    name = _named(wanted["model"], "id", STARTER)
    try:
        return models.get(session, name) if name is not None else None
    except NotFound:
        return None


def _check(session: Session, spec: JobSpec, versions: Sequence[Version], start: Target | None) -> None:
    """Refuse what the run would fail on at once; the first of the versions is the dataset itself."""
    found = []
    version = versions[0]
    objective = OBJECTIVES[spec.objective.model_dump()["kind"]]
    needed = ", ".join(objective.row_kinds)
    found += [
        problem("data_rows_do_not_fit", field="objective.kind", needed=needed, given=one.row_kind)
        for one in versions
        if one.row_kind not in objective.row_kinds
    ]
    if spec.data.sha256 != version.sha256:
        found.append(problem("data_other_rows", field="data.sha256", dataset=version.name, version=version.version))
    try:
        there = models.get(session, spec.model.id).facts.get("revision")
        if spec.model.revision is not None and spec.model.revision != there:
            given = spec.model.revision
            found.append(problem("model_other_revision", field="model.revision", given=given, there=there or "–"))
    except NotFound:
        found.append(problem("model_not_there", field="model.id", given=spec.model.id))
    if start is not None:
        found += _misfits(session, spec, start)
        has_adapter = start.adapter_path is not None
        other = other_head(spec, target=start.text, head=start.head, has_adapter=has_adapter)
        found += [] if other is None else [other]
    elif spec.model.start_from is not None:
        found.append(problem("model_checkpoint_missing", field="model.start_from", given=spec.model.start_from))
    if found:
        raise ProblemError(found)


def _misfits(session: Session, spec: JobSpec, start: Target) -> list[Problem]:
    """What keeps the run from starting on the earlier run's adapter: trained further, or merged into its base."""
    if start.adapter_path is None or start.job_id is None:
        return []
    return way_of(spec, jobs.get(session, start.job_id).spec, start.quantization, start.text)[1]
