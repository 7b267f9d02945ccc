"""Rows that a model drafted: a person keeps them, changes them or leaves them out."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.orm import Session

from storage.claims import Claim, guard
from storage.clock import now
from storage.errors import NotFound
from storage.rows import select_values, table_of, to_value, to_values
from storage.tables import ProposalRow

proposal = table_of(ProposalRow)
OPEN, KEPT, LEFT_OUT, FAILED = VERDICTS = ("open", "kept", "left_out", "failed")
AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class NewUnit:
    """What came of one request: rows, or a problem. Tokens are None where the server did not tell."""

    unit: int
    source: dict[str, Any]
    rows: Sequence[dict[str, Any]]
    problem: dict[str, Any] | None
    tokens_in: int | None
    tokens_out: int | None


@dataclass(frozen=True, slots=True)
class Proposal:
    """One drafted row, or what went wrong in place of some."""

    id: int
    job_id: int
    unit: int
    place: int
    source: dict[str, Any]
    content: dict[str, Any] | None
    problem: dict[str, Any] | None
    verdict: str
    edited: bool


@dataclass(frozen=True, slots=True)
class Counts:
    """Rows by verdict, requests, and the tokens of those requests that told them."""

    open: int
    kept: int
    left_out: int
    failed: int
    edited: int
    units: int
    tokens_in: int
    tokens_out: int

    @property
    def drafts(self) -> int:
        """Rows, whatever was decided on them."""
        return self.open + self.kept + self.left_out


SELECT_PROPOSAL = select_values(proposal, Proposal)


def add(session: Session, claim: Claim, new: NewUnit) -> None:
    """Adds what came of a request; a failure of the same request before goes, but its tokens stay counted."""
    guard(session, claim)
    same = (proposal.c.job_id == claim.job_id, proposal.c.unit == new.unit, proposal.c.verdict == FAILED)
    gone = session.execute(delete(proposal).where(*same).returning(proposal.c.tokens_in, proposal.c.tokens_out)).all()
    told = {
        "tokens_in": _sum([new.tokens_in, *(one.tokens_in for one in gone)]),
        "tokens_out": _sum([new.tokens_out, *(one.tokens_out for one in gone)]),
    }
    nothing = {"tokens_in": None, "tokens_out": None}
    values = {"job_id": claim.job_id, "unit": new.unit, "source": new.source, "created_at": now()}
    if new.problem is not None:
        failed = {"place": 0, "content": None, "problem": new.problem, "verdict": FAILED}
        session.execute(insert(proposal).values({**values, **failed, **told}))
    for place, content in enumerate(new.rows):
        row = {"place": place, "content": content, "problem": None, "verdict": OPEN}
        session.execute(insert(proposal).values({**values, **row, **(nothing if place else told)}))


def _sum(counts: Sequence[int | None]) -> int | None:
    told = [one for one in counts if one is not None]
    return sum(told) if told else None


def take_over(session: Session, before: int, after: int) -> None:
    """Gives what one job drafted to another that goes on with it."""
    session.execute(update(proposal).where(proposal.c.job_id == before).values(job_id=after))


def done(session: Session, job_id: int) -> set[int]:
    """The requests that gave rows."""
    statement = select(proposal.c.unit).where(proposal.c.job_id == job_id, proposal.c.verdict != FAILED).distinct()
    return set(session.execute(statement).scalars())


def counts(session: Session, job_id: int) -> Counts:
    """How many there are."""
    of_job = proposal.c.job_id == job_id
    by_verdict = select(proposal.c.verdict, func.count().label("number")).where(of_job).group_by(proposal.c.verdict)
    found = {str(one.verdict): int(one.number) for one in session.execute(by_verdict)}
    edited = select(func.count()).where(of_job, proposal.c.edited.is_(True), proposal.c.verdict == KEPT)
    whole = select(
        func.count(proposal.c.unit.distinct()),
        func.coalesce(func.sum(proposal.c.tokens_in), 0),
        func.coalesce(func.sum(proposal.c.tokens_out), 0),
    ).where(of_job)
    units, tokens_in, tokens_out = session.execute(whole).one()
    return Counts(
        **{verdict: found.get(verdict, 0) for verdict in VERDICTS},
        edited=session.execute(edited).scalar_one(),
        units=units,
        tokens_in=int(tokens_in),
        tokens_out=int(tokens_out),
    )


def listing(session: Session, job_id: int, verdict: str, *, after: int = 0, limit: int = AT_ONCE) -> list[Proposal]:
    """Those of a verdict, in the order of their ids, from behind one."""
    where = (proposal.c.job_id == job_id, proposal.c.verdict == verdict, proposal.c.id > after)
    return to_values(Proposal, session.execute(SELECT_PROPOSAL.where(*where).order_by(proposal.c.id).limit(limit)))


def get(session: Session, proposal_id: int) -> Proposal:
    """One by its id."""
    row = session.execute(SELECT_PROPOSAL.where(proposal.c.id == proposal_id)).one_or_none()
    if row is None:
        raise NotFound("proposal", proposal_id)
    return to_value(Proposal, row)


def kept(session: Session, job_id: int) -> Iterator[Proposal]:
    """All that were kept, in the order of their requests."""
    where = (proposal.c.job_id == job_id, proposal.c.verdict == KEPT)
    statement = SELECT_PROPOSAL.where(*where).order_by(proposal.c.unit, proposal.c.place)
    for row in session.execute(statement.execution_options(yield_per=AT_ONCE)):
        yield to_value(Proposal, row)


def decide(session: Session, job_id: int, ids: Collection[int] | None, verdict: str) -> int:
    """Keeps, leaves out or opens some drafts of a job, or with None all that are open; returns how many changed."""
    which = proposal.c.verdict == OPEN if ids is None else proposal.c.id.in_(ids)
    where = (proposal.c.job_id == job_id, which, proposal.c.verdict.not_in((FAILED, verdict)))
    at = None if verdict == OPEN else now()
    changed = session.execute(
        update(proposal).where(*where).values(verdict=verdict, decided_at=at).returning(proposal.c.id)
    )
    return len(changed.all())


def edit(session: Session, proposal_id: int, content: dict[str, Any]) -> None:
    """Keeps a draft as a person wrote it; NotFound where there is none with rows."""
    where = (proposal.c.id == proposal_id, proposal.c.verdict != FAILED)
    values = {"content": content, "edited": True, "verdict": KEPT, "decided_at": now()}
    if session.execute(update(proposal).where(*where).values(values).returning(proposal.c.id)).scalar() is None:
        raise NotFound("proposal", proposal_id)
