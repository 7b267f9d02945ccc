"""Questions to the worker's preview child, and the wait for its answers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.specs.problem import Problem
from storage import requests, workers
from storage.database import Store
from storage.errors import NotFound

POLL_S = 0.012
ASK_AGAIN_S = 30.0
"""So long an answer holds that there is none."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a question: `data` once it is answered, `problems` if it cannot be."""

    id: int
    is_open: bool
    data: Mapping[str, Any] | None = None
    problems: tuple[Problem, ...] = field(default_factory=tuple)


def ask(store: Store, kind: str, payload: dict[str, Any]) -> int:
    """Ask, and return the question's id."""
    with store.write() as session:
        return requests.ask(session, kind, payload)


def ask_once(store: Store, kind: str, payload: dict[str, Any]) -> int:
    """Ask what nobody has asked lately, and return the question's id.

    What could not be answered is asked again after a while, so that a page that looks every moment does not ask for
    ever.
    """
    with store.read() as session:
        asked = requests.recent(session, kind, failed_within_s=ASK_AGAIN_S)
    same = (one.id for one in asked if one.payload == payload)
    known = next(same, None)
    return ask(store, kind, payload) if known is None else known


def look(store: Store, request_id: int) -> Answer:
    """Return what is known now. A question that was swept away has no answer and is not open."""
    try:
        with store.read() as session:
            found = requests.get(session, request_id)
    except NotFound:
        return Answer(request_id, is_open=False)
    problems = tuple(Problem.from_dict(item) for item in found.problems or ())
    return Answer(request_id, found.state in ("asked", "taken"), found.answer, problems)


def wait(store: Store, request_id: int, *, within_s: float) -> Answer:
    """Look until there is an answer or the time is over."""
    end = time.monotonic() + within_s
    while (answer := look(store, request_id)).is_open and time.monotonic() < end:
        time.sleep(POLL_S)
    return answer


def worker_lives(store: Store) -> bool:
    """Whether somebody is there to answer."""
    with store.read() as session:
        return bool(workers.live(session))
