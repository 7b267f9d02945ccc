"""One answer: from a claimed message to its finished row, written while it is generated."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.models.detokenising import Detokeniser
from engine.models.serving import Sampling, Served
from engine.runtime.checkpoints import BrokenCheckpoint, verify
from engine.runtime.failures import is_out_of_memory
from engine.specs.problem import ProblemError, problem
from storage import messages
from storage.database import Store
from storage.messages import Message

WRITE_EVERY_S = 0.2  # as often as a page is told; a write takes 1.8 ms of the processor
MAX_TOKENS = 512


@dataclass
class Growing:
    """The answer so far: filled by the generating thread, written to its row by another, since a commit waits."""

    tokens: list[int] = field(default_factory=list)
    news: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    stop: threading.Event = field(default_factory=threading.Event)
    error: BaseException | None = None
    _prompt_seen: bool = False

    def put(self, value: Any) -> None:
        """Take what `generate` streams: the prompt first, then token by token."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.tokens.extend(int(token) for token in value.reshape(-1).tolist())
        self.news.set()

    def end(self) -> None:
        """`generate` has finished."""
        self.news.set()


def answer(
    store: Store, served: Served, message: Message, process_id: int, *, leave: Callable[[], bool] = lambda: False
) -> None:
    """Answer a claimed message and finish its row, whatever happens. `leave` says that the process must end.

    Raises:
        MemoryError, torch.OutOfMemoryError: after the row says so; the process should end.
        Fenced: the row is no longer ours.
    """
    began = time.monotonic()
    growing = Growing()
    text = Detokeniser(served.tokenizer)
    writer = threading.Thread(target=_write_along, args=(store, message.id, process_id, growing, text), name="writer")
    try:
        adapter = _checked(message.adapter_path)
        stop_ids = served.voice(adapter).stop_ids
        prompt = _prompt(store, served, message)
        writer.start()
        try:
            tokens = served.generate(
                prompt,
                adapter=adapter,
                sampling=_sampling(message),
                streamer=growing,
                stop=lambda: growing.stop.is_set() or leave(),
            )
        finally:
            growing.over.set()
            growing.news.set()
            writer.join()
    except ProblemError as error:
        first = error.problems[0]
        _finish(store, message, process_id, began, state="failed", reason=first.code, values=dict(first.values))
        return
    except BaseException as error:
        reason = "out_of_memory" if is_out_of_memory(error) else "internal_error"
        _finish(
            store, message, process_id, began, state="failed", reason=reason, values={"error": type(error).__name__}
        )
        raise
    if growing.error is not None:
        raise growing.error
    content = text.end()
    ending = {"content": content, "num_tokens": len(tokens)}
    if leave() and not _ended(stop_ids, tokens):
        _finish(store, message, process_id, began, state="failed", reason="chat_ended", **ending)
    elif growing.stop.is_set() and not _ended(stop_ids, tokens):
        _finish(store, message, process_id, began, state="stopped", stopped_by="stop", **ending)
    else:
        stopped_by = "eos" if _ended(stop_ids, tokens) else "length"
        _finish(store, message, process_id, began, state="done", stopped_by=stopped_by, **ending)


def _write_along(store: Store, message_id: int, process_id: int, growing: Growing, text: Detokeniser) -> None:
    """Write the first token at once, then what has come every `WRITE_EVERY_S`; each write reads the stop flag."""
    taken = 0
    try:
        while not growing.over.is_set():
            growing.news.wait()
            growing.news.clear()
            taken = _take(growing, text, taken)
            if taken == 0 or growing.over.is_set():
                continue
            with store.write() as session:
                asked = messages.write(session, message_id, process_id, content=text.text, num_tokens=taken)
            if asked:
                growing.stop.set()
            growing.over.wait(WRITE_EVERY_S)
        _take(growing, text, taken)
    except BaseException as error:  # kept for the generating thread, which must stop first
        growing.error = error
        growing.stop.set()


def _take(growing: Growing, text: Detokeniser, taken: int) -> int:
    for token in growing.tokens[taken:]:
        text.add(token)
        taken += 1
    return taken


def _checked(adapter: str | None) -> Path | None:
    """The adapter's folder, if its manifest holds."""
    if adapter is None:
        return None
    check_checkpoint(Path(adapter))
    return Path(adapter)


def check_checkpoint(folder: Path, *, deep: bool = False) -> None:
    """Refuse a checkpoint that is not what its manifest says.

    Raises:
        ProblemError: `model_checkpoint_broken`.
    """
    try:
        verify(folder, deep=deep)
    except BrokenCheckpoint as error:
        found = problem("model_checkpoint_broken", checkpoint=folder.name, detail=error.why, file=error.file)
        raise ProblemError([found]) from error


def _prompt(store: Store, served: Served, message: Message) -> list[int]:
    with store.read() as session:
        told = messages.history(session, message.id)
    renderer = served.voice(message.adapter_path).renderer
    ids: list[int] = renderer.prompt([{"role": role, "content": content} for role, content in told])
    if len(ids) >= served.context_length:
        raise ProblemError([problem("chat_too_long", num_tokens=len(ids), limit=served.context_length)])
    return ids


def _sampling(message: Message) -> Sampling:
    told = message.params
    return Sampling(
        max_tokens=max(1, int(told.get("max_tokens") or MAX_TOKENS)),
        temperature=max(0.0, float(told.get("temperature") or 0.0)),
        seed=int(told.get("seed") or 0),
    )


def _ended(stop_ids: Sequence[int], tokens: list[int]) -> bool:
    return bool(tokens) and tokens[-1] in stop_ids


def _finish(store: Store, message: Message, process_id: int, began: float, **ending: Any) -> None:
    with store.write() as session:
        messages.finish(session, message.id, process_id, seconds=time.monotonic() - began, **ending)
