"""Datasets and their immutable versions: a row names content-addressed files, an edit is a new version."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Select, insert, select, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from storage.clock import now
from storage.errors import Conflict, NotFound
from storage.rows import one_at_a_time, select_values, table_of, to_value, to_values, upsert
from storage.tables import DatasetRow, VersionRow
from storage.usage import deriver_of, num_ended, user_of

dataset = table_of(DatasetRow)
version_table = table_of(VersionRow)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A name and how many versions it has had."""

    id: int
    name: str
    created_at: float
    latest_version: int


@dataclass(frozen=True, slots=True)
class NewVersion:
    """What an import found, or what was made of other versions."""

    name: str
    sha256: str
    path: str
    row_kind: str
    format: str
    rows: int
    usable_rows: int
    bytes: int
    source_name: str
    mapping: dict[str, Any] = field(default_factory=dict)
    problems: list[Any] = field(default_factory=list)
    """The first 50; `problem_count` counts all."""
    problem_count: int = 0
    warnings: list[Any] = field(default_factory=list)
    statistics: dict[str, Any] = field(default_factory=dict)
    policy: str = "fail"
    made_from: dict[str, Any] | None = None
    """`{"operation", "settings", "parents": [{"name", "version", "sha256"}]}`; None where it came from a file."""


@dataclass(frozen=True, slots=True)
class Version:
    """One immutable version of a dataset."""

    id: int
    dataset_id: int
    name: str
    version: int
    sha256: str
    path: str
    row_kind: str
    format: str
    mapping: dict[str, Any]
    rows: int
    usable_rows: int
    problems: list[Any]
    problem_count: int
    warnings: list[Any]
    statistics: dict[str, Any]
    source_name: str
    policy: str
    created_at: float
    bytes: int
    made_from: dict[str, Any] | None


def _versions() -> Select[Any]:
    own = [version_table.c[name] for name in Version.__dataclass_fields__ if name != "name"]
    return select(dataset.c.name, *own).join_from(version_table, dataset)


SELECT_VERSION = _versions()


def add_version(session: Session, new: NewVersion) -> Version:
    """Adds a version, and the dataset where it is the first; the same content gives the version that is there."""
    one_at_a_time(session, "datasets")
    made = upsert(session, dataset).values(name=new.name, created_at=now()).on_conflict_do_nothing()
    session.execute(made)
    owner = session.execute(select(dataset.c.id).where(dataset.c.name == new.name).with_for_update()).scalar_one()
    same = (version_table.c.dataset_id == owner, version_table.c.sha256 == new.sha256)
    known = session.execute(SELECT_VERSION.where(*same)).one_or_none()
    if known is not None:
        return to_value(Version, known)
    grown = update(dataset).where(dataset.c.id == owner).values(latest_version=dataset.c.latest_version + 1)
    number = session.execute(grown.returning(dataset.c.latest_version)).scalar_one()
    values = {name: getattr(new, name) for name in NewVersion.__dataclass_fields__ if name != "name"}
    values |= {"dataset_id": owner, "version": number, "created_at": now()}
    added = session.execute(insert(version_table).values(values).returning(version_table.c.id)).scalar_one()
    return by_id(session, added)


def listing(session: Session) -> list[Version]:
    """The latest version of each dataset, newest first."""
    latest = version_table.c.version == dataset.c.latest_version
    return to_values(Version, session.execute(SELECT_VERSION.where(latest).order_by(version_table.c.id.desc())))


def versions(session: Session, name: str) -> list[Version]:
    """All versions of a dataset, newest first."""
    statement = SELECT_VERSION.where(dataset.c.name == name).order_by(version_table.c.version.desc())
    return to_values(Version, session.execute(statement))


def get(session: Session, name: str, version: int | None = None) -> Version:
    """One version of a dataset, the latest unless said otherwise."""
    wanted = dataset.c.latest_version if version is None else version
    row = session.execute(SELECT_VERSION.where(dataset.c.name == name, version_table.c.version == wanted)).one_or_none()
    if row is None:
        raise NotFound("dataset", name if version is None else f"{name}@{version}")
    return to_value(Version, row)


def of_content(session: Session, name: str, version: int | None, sha256: str) -> Version:
    """The version with these rows: by its name and number, else under whatever name they are there now.

    Conflict where that name and number have come to mean other rows, NotFound where there is nothing.
    """
    there = session.execute(SELECT_VERSION.where(version_table.c.sha256 == sha256).order_by(version_table.c.id.desc()))
    found = to_values(Version, there)
    if found:
        return next((one for one in found if (one.name, one.version) == (name, version)), found[0])
    get(session, name, version)
    raise Conflict("data_other_rows", {"name": name, "version": version})


def by_id(session: Session, version_id: int) -> Version:
    """One version by its own id."""
    row = session.execute(SELECT_VERSION.where(version_table.c.id == version_id)).one_or_none()
    if row is None:
        raise NotFound("dataset_version", version_id)
    return to_value(Version, row)


def find(session: Session, name: str) -> Dataset:
    """The dataset of a name."""
    row = session.execute(select_values(dataset, Dataset).where(dataset.c.name == name)).one_or_none()
    if row is None:
        raise NotFound("dataset", name)
    return to_value(Dataset, row)


def rename(session: Session, name: str, new_name: str) -> Dataset:
    """Gives a dataset another name, unless a job that is not finished knows it by the old one."""
    one_at_a_time(session, "datasets")
    found = find(session, name)
    _must_not_be_in_use(session, name)
    taken = session.execute(select(dataset.c.id).where(dataset.c.name == new_name)).scalar()
    if taken is not None and taken != found.id:
        raise Conflict("dataset_name_taken", {"name": new_name})
    session.execute(update(dataset).where(dataset.c.id == found.id).values(name=new_name))
    return find(session, new_name)


def delete(session: Session, name: str) -> list[Version]:
    """Removes a dataset; returns the versions whose files no other dataset needs, for the caller to delete."""
    one_at_a_time(session, "datasets")
    found = find(session, name)
    gone = _only_in(session, name)
    _must_not_be_in_use(session, name, gone)
    session.execute(delete_from(dataset).where(dataset.c.id == found.id))
    return gone


def num_runs(session: Session, name: str) -> int:
    """How many runs that have ended learned from what only this dataset has: they need it for an export or a retry."""
    return num_ended(session, dataset=name, contents=[one.sha256 for one in _only_in(session, name)])


def _only_in(session: Session, name: str) -> list[Version]:
    """The versions whose rows no other dataset has."""
    elsewhere = select(version_table.c.sha256).join_from(version_table, dataset).where(dataset.c.name != name)
    kept = set(session.execute(elsewhere).scalars())
    return [version for version in versions(session, name) if version.sha256 not in kept]


def _must_not_be_in_use(session: Session, name: str, needed: Sequence[Version] = ()) -> None:
    users = [user_of(session, section="data", key="dataset", name=name)]
    users += [user_of(session, section="data", key="sha256", name=one.sha256) for one in needed]
    users.append(deriver_of(session, [one.sha256 for one in needed]))
    user = next((one for one in users if one is not None), None)
    if user is not None:
        raise Conflict("dataset_in_use", {"name": name, "by": user})
