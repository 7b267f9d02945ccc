"""A server that speaks OpenAI's chat completions. Asked again where it may help; its key goes to its own host alone.

Protocol: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

import json
import os
import random
import stat
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.drafting.protocol import Messages, Reply
from engine.runtime import posting
from engine.runtime.child import Context
from engine.runtime.generating.protocol import NoReply, Wanted
from engine.runtime.posting import NotAnswered, NotReached
from engine.specs import generators, outside
from engine.specs.outside import ENDPOINT_ALLOW, Address
from engine.specs.problem import ProblemError, problem
from storage.plain import plain

PATH = "/chat/completions"
FIRST_PAUSE_S = 1.0
LONGEST_PAUSE_S = 60.0
LONGEST_ASKED_PAUSE_S = 300.0
MOST_DETAIL = 300
BUSY = (408, 409, 425, 429)
LIMITS = ("max_tokens", "max_completion_tokens")
"""What the length of a reply is called: by most servers, and by newer models of some."""


@dataclass
class Endpoint:
    """One server and one of its models."""

    settings: generators.Endpoint
    to: Address
    allow: frozenset[str]
    key: str | None
    first_pause_s: float = FIRST_PAUSE_S
    _limit: str = field(default=LIMITS[0], init=False)

    @classmethod
    def of(cls, context: Context, settings: generators.Endpoint) -> Endpoint:
        """The server that a job names.

        Raises:
            ProblemError: its address may not be reached from here, or the key's file is open to others.
        """
        allow = outside.allowed(os.environ, ENDPOINT_ALLOW)
        to = outside.check(settings.url.rstrip("/") + PATH, allow, ENDPOINT_ALLOW)
        return cls(settings, to, allow, key_for(to, context.home.endpoint_key_file))

    @property
    def at_once(self) -> int:
        return self.settings.at_once

    def reply(self, messages: Messages, wanted: Wanted, stop: threading.Event) -> Reply:
        """Ask until there is an answer, with growing pauses. A server that cannot be reached ends the whole; one that
        fails at this request only this one."""
        for number in range(1, self.settings.tries + 1):
            limit = self._limit
            try:
                answer = self._ask(messages, wanted, limit)
                if limit == LIMITS[0] and _wants_other_limit(answer):
                    self._limit = LIMITS[1]
                    answer = self._ask(messages, wanted, LIMITS[1])
            except NotReached as error:
                failed, pause_s = error, None
            else:
                if answer.status not in BUSY and answer.status < 500:
                    return self._read(answer)
                failed, pause_s = NotAnswered(f"HTTP {answer.status}"), _asked_pause(answer.headers)
            if number == self.settings.tries or stop.wait(pause_s or self._pause(number)):
                break
        told: dict[str, Any] = {"host": self.to.host, "tries": number, "detail": str(failed)}
        found = problem("model_not_reached", field="generator.url", **told)
        raise NoReply(found) if isinstance(failed, NotAnswered) else ProblemError([found])

    def _ask(self, messages: Messages, wanted: Wanted, limit: str) -> posting.Reply:
        body = {
            "model": self.settings.model,
            "messages": messages,
            "temperature": wanted.temperature,
            "seed": wanted.seed,
            limit: wanted.max_tokens,
        }
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        said = json.dumps(body).encode()
        return posting.post(self.to, said, allow=self.allow, timeout_s=self.settings.timeout_s, headers=headers)

    def _pause(self, number: int) -> float:
        """Twice as long each time, with chance in it, so that what waits together does not come back together."""
        longest: float = min(LONGEST_PAUSE_S, self.first_pause_s * 2 ** (number - 1))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  no secret

    def _read(self, answer: posting.Reply) -> Reply:
        told: dict[str, Any] = {"host": self.to.host, "model": self.settings.model, "detail": _detail(answer.body)}
        if answer.status in (401, 403):
            raise ProblemError([problem("model_key_refused", field="generator.url", **told)])
        if answer.status == 404:
            raise ProblemError([problem("model_not_on_server", field="generator.model", **told)])
        if answer.status != 200:
            raise NoReply(problem("draft_refused", status=answer.status, **told))
        found = _reply(answer.body)
        if found is None:
            raise NoReply(problem("draft_odd_reply", **told))
        return found


def _wants_other_limit(answer: posting.Reply) -> bool:
    return answer.status == 400 and LIMITS[1].encode() in answer.body


def key_for(to: Address, file: Path) -> str | None:
    """The key that was given for a host, and for no other; never over a connection that others can read.

    Raises:
        ProblemError: others can read the file.
    """
    try:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ProblemError([problem("endpoint_key_readable_by_others", file=file.name)])
        kept = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return str(kept["key"]) if kept["host"] == to.host else None


def _asked_pause(headers: Mapping[str, str]) -> float | None:
    """The seconds that a busy server asks to wait."""
    asked = headers.get("retry-after", "")
    return min(float(asked), LONGEST_ASKED_PAUSE_S) if asked.isascii() and asked.isdigit() else None


def _detail(body: bytes) -> str:
    """What the server says was wrong, as text."""
    try:
        said = json.loads(body)
        found = said["error"]["message"] if isinstance(said["error"], dict) else said["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = body[: 4 * MOST_DETAIL].decode("utf-8", "replace")
    return plain(str(found))[:MOST_DETAIL]


def _reply(body: bytes) -> Reply | None:
    try:
        said = json.loads(body)
        choice = said["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    text = "" if text is None else text  # all of its length went into reasoning
    if not isinstance(text, str):
        return None
    usage = said.get("usage")
    counts = [_count(usage, name) for name in ("prompt_tokens", "completion_tokens")]
    return Reply(plain(text), choice.get("finish_reason") == "length", *counts)


def _count(usage: Any, name: str) -> int | None:
    found = usage.get(name) if isinstance(usage, dict) else None
    return found if isinstance(found, int) and 0 <= found < 2**40 else None
