"""A conversation as the browser reads it: whole when something was added, else only the answers that grow.

Every look of a page costs processors that may be computing the answer. So a page says what it has seen, and its request
is held here until there is something else to see.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from app import measure
from app.language import Text, text_for
from app.refusal import problem_of
from storage import jobs, messages, processes, workers
from storage.database import Store
from storage.errors import NotFound
from storage.messages import Message
from storage.targets import BASE, parse_key

MOST_OPEN = 8
SHORT_STATES = ("queued", "running")
HOLD_S = 1.5
"""How long a request is held at most, less than a server that ends waits for one; the page then asks again."""
GROWTH_S = 0.2
"""How often text that grows is told. Anything else, its first word and its end too, is told at once."""
LOOK_S = 0.01
"""How often the store is looked at while somebody waits, once for all who wait."""


class Held:
    """Answers the readers of conversations, each as soon as there is something that it has not seen."""

    def __init__(self, store: Store) -> None:
        self._store, self._watch = store, store.watch()
        self._looking = asyncio.Lock()
        self._looked_at, self._writes = 0.0, 0

    async def conversation(self, request: Request) -> dict[str, Any]:
        """Like `live_conversation`; a reader who names what it has `seen` is told later.

        Raises:
            NotFound, ValueError: there is no such conversation.
        """
        began, asked = time.monotonic(), request.query_params
        if "seen" not in asked:
            return await self._read(request)
        before = await self._count()  # what is written from here on is noticed
        found = await self._read(request)
        while not _is_told(found, asked, time.monotonic() - began):
            await asyncio.sleep(LOOK_S)
            now = await self._count()
            if now != before:
                before, found = now, await self._read(request)
        return found

    async def _read(self, request: Request) -> dict[str, Any]:
        return await run_in_threadpool(live_conversation, self._store, request)

    async def _count(self) -> int:
        """How often something was written, as far as anybody looked."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= LOOK_S:
                self._writes += await run_in_threadpool(self._watch.changed)
                self._looked_at = time.monotonic()
        return self._writes


def _is_told(found: Mapping[str, Any], asked: Mapping[str, str], waited_s: float) -> bool:
    if waited_s > HOLD_S:
        return True
    seen, _, length = asked["seen"].partition(".")
    now, _, grown = found["seen"].partition(".")
    return now != seen or (grown != length and waited_s > GROWTH_S)


def live_conversation(store: Store, request: Request) -> dict[str, Any]:
    """Return what is new in `id` for a reader who knows all up to message `after` and waits for the answers `open`.

    Raises:
        NotFound, ValueError: there is no such conversation.
    """
    t = text_for(request)
    asked = request.query_params
    number, after = int(asked["id"]), int(asked.get("after") or -1)
    waits = [int(part) for part in asked.get("open", "").split(",") if part][:MOST_OPEN]
    with store.read() as session:
        newest = messages.newest(session, number)
        if newest is None:
            raise NotFound("conversation", number)
        anew = newest != after
        found = messages.transcript(session, number) if anew else messages.several(session, waits)
        names = _Names(session, t)
        told = [_document(session, one, names, t) for one in found if one.conversation_id == number]
    return {"id": number, "anew": anew, "newest": newest, "seen": _seen(newest, told), "messages": told}


def _seen(newest: int, told: list[dict[str, Any]]) -> str:
    """Return a short name of what a reader now sees, and behind a dot how much has grown."""
    growing = [one for one in told if one["open"]]
    states = [(one["id"], one["state"], bool(one["content"]) or one["note"]) for one in growing]
    name = hashlib.sha256(repr((newest, states)).encode()).hexdigest()[:16]
    return f"{name}.{sum(len(one['content']) for one in growing)}"


def _document(session: Session, one: Message, names: _Names, t: Text) -> dict[str, Any]:
    return {
        "id": one.id,
        "turn": one.turn,
        "slot": one.slot,
        "role": one.role,
        "content": one.content,
        "state": one.state,
        "open": one.state in SHORT_STATES,
        "who": names.of(one.target, one.base_key) if one.target else "",
        "note": _waiting(session, one, t) if one.state == "queued" else facts(one, t),
        "problem": t.told(problem_of(one)) if one.state == "failed" else "",
    }


class _Names:
    """What targets are called; each job is looked up once."""

    def __init__(self, session: Session, t: Text) -> None:
        self._session, self._t = session, t
        self._known: dict[str, str] = {}

    def of(self, target: str, base_key: str | None) -> str:
        if target not in self._known:
            self._known[target] = name_of(self._session, target, self._t)
        form = parse_key(base_key)[1] if base_key and target.startswith(BASE) else "none"
        return self._known[target] + (f" · {self._t(f'choice.quantization.{form}')}" if form != "none" else "")


def name_of(session: Session, target: str, t: Text) -> str:
    """Return what people call a target: a base by its model, a checkpoint by its run and step."""
    if target.startswith(BASE):
        return t("chat.base", model=target.removeprefix(BASE))
    number, _, step = target.partition("@")
    try:
        name = jobs.get(session, int(number)).name
    except NotFound:
        name = t("chat.run_gone", id=number)
    return t("chat.checkpoint", run=name, step=step)


def facts(one: Message, t: Text) -> str:
    """Return the small print of an answer: tokens, speed, seed, how it ended."""
    if one.role != "assistant":
        return ""
    parts = [t("chat.tokens", n=one.num_tokens)] if one.num_tokens else []
    if one.seconds and one.num_tokens > 1:
        parts.append(t("chat.speed", rate=measure.number(one.num_tokens / one.seconds, 2)))
    if one.params.get("temperature"):
        parts.append(t("chat.seed_was", seed=one.params.get("seed", 0)))
    if one.stopped_by in ("length", "stop"):
        parts.append(t(f"chat.stopped_by.{one.stopped_by}"))
    return " · ".join(parts)


def _waiting(session: Session, one: Message, t: Text) -> str:
    """Return what an answer waits for."""
    found = next((process for process in processes.listing(session) if process.base_key == one.base_key), None)
    if found is not None:
        return t("chat.waiting.loading" if found.state == "loading" else "chat.waiting.turn")
    lives = workers.live(session)
    return t("chat.waiting.start" if lives else "chat.waiting.no_worker")
