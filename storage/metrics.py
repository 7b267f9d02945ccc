"""Curve points: appended by the trainer in batches, read down-sampled for a chart and then only what is new."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

from sqlalchemy import ColumnElement, Row, and_, bindparam, func, select
from sqlalchemy.orm import Session

from storage.claims import Claim, guard, job
from storage.clock import now
from storage.errors import NotFound
from storage.rows import table_of, upsert
from storage.tables import MetricRow

metric = table_of(MetricRow)
CURSOR = select(job.c.metric_version, job.c.metric_generation).where(job.c.id == bindparam("id"))
Series = dict[str, list[tuple[int, float | None]]]


@dataclass(frozen=True, slots=True)
class Point:
    """One value of one curve. NaN and infinity are kept as None: a gap in the curve."""

    name: str
    step: int
    value: float | None


class Cursor(NamedTuple):
    """How far a chart has read. Another generation means that points went away: draw anew."""

    version: int
    generation: int


class Newer(NamedTuple):
    """The points written since a version, and where the reader stands now."""

    series: Series
    version: int
    generation: int


def append(session: Session, claim: Claim, points: Sequence[Point]) -> None:
    """Writes points; one that a newer attempt has written stays. Fenced when the claim no longer holds."""
    version = guard(session, claim, metric_version=job.c.metric_version + 1)
    if not points:
        return
    insert = upsert(session, metric).values(at=now())
    new = insert.excluded
    statement = insert.on_conflict_do_update(
        index_elements=["job_id", "name", "step"],
        set_={"value": new.value, "token": new.token, "at": new.at, "version": new.version},
        where=new.token >= metric.c.token,
    )
    common = {"job_id": claim.job_id, "token": claim.token, "version": version}
    session.execute(statement, [{**common, "name": p.name, "step": p.step, "value": _finite(p.value)} for p in points])


def names_under(session: Session, job_id: int, prefix: str) -> list[str]:
    """The curves whose names begin with `prefix`, in order: one look at the index for each."""
    found: list[str] = []
    following = select(func.min(metric.c.name)).where(_of(job_id), metric.c.name > bindparam("last"))
    while True:
        name = session.execute(following, {"last": found[-1] if found else prefix}).scalar()
        if name is None or not name.startswith(prefix):
            return found
        found.append(name)


def latest(session: Session, job_id: int) -> dict[str, tuple[int, float | None]]:
    """The last point of each curve."""
    last = select(metric.c.name, func.max(metric.c.step).label("step")).where(metric.c.job_id == job_id)
    ends = last.group_by(metric.c.name).subquery()
    same = and_(metric.c.name == ends.c.name, metric.c.step == ends.c.step)
    rows = session.execute(select(metric.c.name, metric.c.step, metric.c.value).join(ends, same).where(_of(job_id)))
    return {name: (step, value) for name, step, value in rows}


def cursor(session: Session, job_id: int) -> Cursor:
    """Where a reader stands who has read all points up to now."""
    row = session.execute(CURSOR, {"id": job_id}).one_or_none()
    if row is None:
        raise NotFound("job", job_id)
    return Cursor(*row)


def newer(session: Session, job_id: int, *, after: int, names: Sequence[str] | None = None) -> Newer:
    """The points written since version `after`, in order of their steps."""
    here = cursor(session, job_id)
    if here.version == after:
        return Newer({}, *here)
    # By version first: for the names, PostgreSQL may take the index of the curves and read each to its end.
    points = select(metric.c.name, metric.c.step, metric.c.value).where(_of(job_id), metric.c.version > after)
    fresh = points.cte("fresh").prefix_with("MATERIALIZED")
    statement = select(fresh).order_by(fresh.c.step)
    if names is not None:
        statement = statement.where(fresh.c.name.in_(names))
    return Newer(_grouped(session.execute(statement)), *here)


def series(session: Session, job_id: int, *, names: Sequence[str] | None = None, limit: int = 2000) -> Series:
    """The curves, each with at most about `limit` points: a longer one keeps the extremes and gaps of its stretches."""
    where = [_of(job_id)]
    if names is not None:
        where.append(metric.c.name.in_(names))
    extents = session.execute(
        select(metric.c.name, func.count().label("number"), func.min(metric.c.step), func.max(metric.c.step))
        .where(*where)
        .group_by(metric.c.name)
    ).all()
    short = [extent.name for extent in extents if extent.number <= limit]
    found = _grouped(
        session.execute(
            select(metric.c.name, metric.c.step, metric.c.value)
            .where(*where, metric.c.name.in_(short))
            .order_by(metric.c.name, metric.c.step)
        )
    )
    for name, number, first, last in extents:
        if number > limit:
            found[name] = _thinned(session, and_(*where, metric.c.name == name), first=first, last=last, limit=limit)
    return dict(sorted(found.items()))


def _thinned(
    session: Session, where: ColumnElement[bool], *, first: int, last: int, limit: int
) -> list[tuple[int, float | None]]:
    """Least and greatest value of each stretch of steps, its first gap, and both ends of the curve.

    One pass over the rows as they come: to join the extremes back to their points in SQL takes both databases longer.
    """
    width = max(1, math.ceil((last - first + 1) / max(1, limit // 2)))
    statement = select(metric.c.step, metric.c.value).where(where).order_by(metric.c.step)
    rows = session.execute(statement, execution_options={"yield_per": 10_000})
    points = ((step, value) for step, value in rows)
    stretches = groupby(points, key=lambda point: (point[0] - first) // width)
    return [point for _, stretch in stretches for point in _kept(list(stretch), ends=(first, last))]


def _kept(points: list[tuple[int, float | None]], *, ends: tuple[int, int]) -> list[tuple[int, float | None]]:
    """What is drawn of a stretch; of an extreme that it has many times, the first."""
    numbers = [point for point in points if point[1] is not None]
    kept = {point for point in points if point[0] in ends}
    kept.update([point for point in points if point[1] is None][:1])
    if numbers:
        kept |= {min(numbers, key=itemgetter(1)), max(numbers, key=itemgetter(1))}
    return sorted(kept, key=itemgetter(0))


def _of(job_id: int) -> ColumnElement[bool]:
    return metric.c.job_id == job_id


def _grouped(rows: Iterable[Row[str, int, float | None]]) -> Series:
    found: Series = defaultdict(list)
    for name, step, value in rows:
        found[name].append((step, value))
    return dict(found)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def pace_s(session: Session, job_id: int, *, window: int = 40) -> float | None:
    """Seconds per step over the last `window` points of the newest attempt; None before there are two."""
    newest = select(func.max(metric.c.token)).where(_of(job_id)).scalar_subquery()
    recent = (
        select(metric.c.step, func.min(metric.c.at).label("at"))
        .where(_of(job_id), metric.c.name == "loss", metric.c.token == newest)
        .group_by(metric.c.step)
        .order_by(metric.c.step.desc())
        .limit(window)
    ).subquery()
    ends = select(func.min(recent.c.step), func.max(recent.c.step), func.min(recent.c.at), func.max(recent.c.at))
    first, last, began, ended = session.execute(ends).one()
    return None if first is None or last == first else (ended - began) / (last - first)
