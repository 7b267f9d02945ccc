"""A refused order in words: what was wrong and how to mend it, on every page and on the command line alike."""

from __future__ import annotations

from app.language import Text
from app.render import Html, note, problems
from engine.specs.problem import Problem, ProblemError
from storage.errors import StoreError
from storage.messages import Message

Refusal = ProblemError | StoreError


def problems_of(error: Refusal) -> tuple[Problem, ...]:
    """Return what stood in the way."""
    return error.problems if isinstance(error, ProblemError) else (Problem(error.code, values=error.values),)


def problem_of(answer: Message) -> Problem:
    """Return what stood in the way of an answer that failed."""
    return Problem(str(answer.reason), values=answer.values)


def refusal(error: Refusal, t: Text) -> Html:
    """Return why an order was not carried out, and what to do."""
    found = problems_of(error)
    said = problems(found, t) if isinstance(error, ProblemError) else t.told(found[0])
    return note(t("refused"), said, tone="bad")
