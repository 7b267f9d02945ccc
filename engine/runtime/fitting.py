"""What this host can do: where several hosts share a store, each takes only what its devices and its folders satisfy.

A host that works alone takes everything: its children then say in words what is missing.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from engine.runtime.machine import devices, host
from engine.specs.home import Home
from storage import datasets, jobs, models, requests, targets, workers
from storage.errors import StoreError
from storage.jobs import Job

LOOK_AT = 200
"""How many waiting jobs of a lane are looked at for one that fits."""
Spec = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Here:
    """This host, as far as a job can ask for something."""

    home: Home
    host: str
    has_gpu: bool

    @classmethod
    def of(cls, home: Home) -> Here:
        return cls(home, host(), _has_gpu())


@functools.cache
def _has_gpu() -> bool:
    return any(one["kind"] == "cuda" for one in devices())


def is_shared(session: Session, here: Here) -> bool:
    """Whether a worker of another host lives on this store."""
    return any(one.host != here.host for one in workers.live(session))


def obstacles(session: Session, here: Here, waiting: Sequence[Job]) -> dict[int, str]:
    """What keeps this host from each of the jobs that it cannot do; nothing does where it works alone."""
    if not is_shared(session, here):
        return {}
    found = {job.id: obstacle(session, here, job) for job in waiting}
    return {job_id: what for job_id, what in found.items() if what is not None}


def answerable(session: Session, here: Here, *, without: Collection[str] = ()) -> list[int] | None:
    """The requests that the preview child of this host can answer, oldest first; None where it may take any."""
    if not is_shared(session, here):
        return None
    open_ = requests.asked(session, without=without)
    return [one.id for one in open_ if _missing(_asked(session, here, one.kind, one.payload)) is None]


def loadable(session: Session, here: Here, base_keys: Sequence[str]) -> list[str]:
    """The bases among these that this host can load."""
    if not is_shared(session, here):
        return list(base_keys)
    return [key for key in base_keys if _missing([Path(targets.parse_key(key)[0])]) is None]


def obstacle(session: Session, here: Here, job: Job) -> str | None:
    """Why this host cannot do a job: `gpu`, or the path that it does not see; None where it can."""
    run = job.spec.get("run") or job.spec
    if (run.get("resources") or {}).get("devices") == "cuda" and not here.has_gpu:
        return "gpu"
    return _missing(_asked(session, here, job.kind, job.spec))


def _missing(paths: Collection[Path] | Iterator[Path]) -> str | None:
    return next((str(path) for path in paths if not os.path.exists(path)), None)


def _asked(session: Session, here: Here, kind: str, asked: Spec) -> Iterator[Path]:
    """The paths that a job or a request names. What the store does not know is left to the child to refuse."""
    for find in NEEDS.get(kind, ()):
        try:
            yield from find(session, here, asked)
        except StoreError:
            continue


def _base(session: Session, _here: Here, spec: Spec) -> Iterator[Path]:
    model = spec.get("model") or {}
    if model.get("start_from"):
        yield from _checkpoint(session, model["start_from"])
    elif model.get("id"):
        yield Path(models.get(session, model["id"]).path)


def _rows(session: Session, _here: Here, spec: Spec) -> Iterator[Path]:
    data = spec.get("data") or {}
    name, version, content = data.get("dataset"), data.get("version"), data.get("sha256")
    if content and name:
        yield Path(datasets.of_content(session, name, version, content).path)
    elif name:
        yield Path(datasets.get(session, name, version).path)


def _mixed_in(session: Session, here: Here, spec: Spec) -> Iterator[Path]:
    data = spec.get("data") or {}
    named = {key: data.get(f"mix_in_{key}") for key in ("version", "sha256")}
    yield from _rows(session, here, {"data": {"dataset": data.get("mix_in"), **named}})


def _sources(session: Session, here: Here, spec: Spec) -> Iterator[Path]:
    for one in spec.get("sources") or ():
        yield from _rows(session, here, {"data": one})


def _checkpoint(session: Session, text: str) -> Iterator[Path]:
    target = targets.resolve(session, text)
    yield Path(target.base_path)
    if target.adapter_path:
        yield Path(target.adapter_path)


def _exported(session: Session, here: Here, spec: Spec) -> Iterator[Path]:
    if spec.get("target"):
        yield from _checkpoint(session, spec["target"])
        yield from _rows(session, here, jobs.get(session, int(spec["target"].partition("@")[0])).spec)


def _staged(_session: Session, here: Here, spec: Spec) -> Iterator[Path]:
    if spec.get("staged"):
        yield here.home.staging / str(spec["staged"])


def _folder(_session: Session, _here: Here, spec: Spec) -> Iterator[Path]:
    if spec.get("source") == "folder":
        yield Path(str(spec["location"]))


def _tried(find: Callable[[Session, Here, Spec], Iterator[Path]]) -> Callable[[Session, Here, Spec], Iterator[Path]]:
    """The same of the run that a trial tries."""
    return lambda session, here, spec: find(session, here, spec.get("run") or {})


def _planned(find: Callable[[Session, Here, Spec], Iterator[Path]]) -> Callable[[Session, Here, Spec], Iterator[Path]]:
    """The same of the run that a request asks about."""
    return lambda session, here, spec: find(session, here, spec.get("spec") or {})


def _version(session: Session, _here: Here, payload: Spec) -> Iterator[Path]:
    yield Path(datasets.by_id(session, int(payload["version_id"])).path)


def _model(session: Session, _here: Here, payload: Spec) -> Iterator[Path]:
    yield Path(models.get(session, str(payload["model"])).path)


NEEDS: dict[str, tuple[Callable[[Session, Here, Spec], Iterator[Path]], ...]] = {
    "train": (_base, _rows, _mixed_in),
    "trial": (_tried(_base), _tried(_rows), _tried(_mixed_in)),
    "export": (_exported,),
    "import": (_staged,),
    "add_model": (_folder,),
    "examine": (_rows,),
    "cluster": (_rows,),
    "derive": (_sources,),
    "write_data": (_rows,),
    "tokens": (_version, _model),
    "lengths": (_version, _model),
    "plan": (_planned(_base), _planned(_rows), _planned(_mixed_in)),
    "packed": (_planned(_base), _planned(_rows), _planned(_mixed_in)),
}
"""What a kind of job or of request needs to see."""
