"""Where a dataset version came from, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from storage.datasets import SELECT_VERSION, Version, by_id, version_table
from storage.rows import to_values


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A version by the name that it had when another was made of it; `version_id` is None where it is gone."""

    name: str
    version: int
    sha256: str
    operation: str
    """What was done with it."""
    depth: int
    """1 for what the version itself was made from, 2 for what that was made from."""
    version_id: int | None


@dataclass(frozen=True, slots=True)
class Lineage:
    """`ancestors` nearest first, as far back as they are still there; `children` were made of it directly."""

    ancestors: list[Ancestor]
    children: list[Version]


def lineage(session: Session, version_id: int) -> Lineage:
    """The ancestors and children of a version."""
    own = by_id(session, version_id)
    statement = SELECT_VERSION.where(version_table.c.made_from.is_not(None)).order_by(version_table.c.id)
    made = to_values(Version, session.execute(statement))
    children = [one for one in made if one.id != own.id and own.sha256 in _parents(one)]
    return Lineage(_ancestors(session, own), children)


def _ancestors(session: Session, own: Version) -> list[Ancestor]:
    found: list[Ancestor] = []
    seen = {own.sha256}
    generation = [own]
    depth = 0
    while generation:
        depth += 1
        older: list[Version] = []
        for child in generation:
            for told in _parents(child).values():
                there = _there(session, told)
                operation = str((child.made_from or {})["operation"])
                place = None if there is None else there.id
                found.append(Ancestor(told["name"], told["version"], told["sha256"], operation, depth, place))
                if there is not None and there.sha256 not in seen:
                    seen.add(there.sha256)
                    older.append(there)
        generation = older
    return found


def _parents(one: Version) -> dict[str, dict[str, Any]]:
    return {told["sha256"]: told for told in (one.made_from or {}).get("parents", ())}


def _there(session: Session, told: dict[str, Any]) -> Version | None:
    """The version with these rows, preferably by the name it had; None where it is gone."""
    same = SELECT_VERSION.where(version_table.c.sha256 == told["sha256"]).order_by(version_table.c.id.desc())
    found = to_values(Version, session.execute(same))
    named = (one for one in found if (one.name, one.version) == (told["name"], told["version"]))
    return next(named, found[0] if found else None)
