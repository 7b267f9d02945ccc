"""What a generator is: messages in, a reply out."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Protocol

from engine.data.drafting.protocol import Messages, Reply
from engine.specs.problem import Problem


@dataclass(frozen=True, slots=True)
class Wanted:
    """How a reply is drawn."""

    max_tokens: int
    temperature: float
    seed: int


class NoReply(Exception):
    """There is no reply to this one request; others may have one."""

    def __init__(self, found: Problem) -> None:
        self.problem = found
        super().__init__(found.code)


class Generator(Protocol):
    """Answers requests, `at_once` of them at the same time from as many threads."""

    @property
    def at_once(self) -> int: ...

    def reply(self, messages: Messages, wanted: Wanted, stop: threading.Event) -> Reply:
        """Answer one request; `stop` ends the waiting.

        Raises:
            NoReply: this request has no answer.
            ProblemError: no request will have one.
        """
        ...
