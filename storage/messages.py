"""Conversations: a person asks, stops, asks again and reads. What a chat process does is in `answers`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.orm import Session

from storage.answers import Ending, claim, fail_of_dead, fail_waiting, finish, waiting_bases, write
from storage.clock import now
from storage.errors import Conflict, NotFound
from storage.message_values import (
    FINISHED,
    SELECT_MESSAGE,
    SEVERAL,
    TRANSCRIPT,
    Conversation,
    Message,
    conversation,
    message,
)
from storage.rows import select_values, to_value, to_values
from storage.targets import Target, must_talk

__all__ = [
    "Conversation",
    "Ending",
    "Message",
    "ask",
    "claim",
    "conversations",
    "fail_of_dead",
    "fail_waiting",
    "finish",
    "forget",
    "get",
    "history",
    "newest",
    "regenerate",
    "several",
    "stop",
    "stop_conversation",
    "transcript",
    "waiting_bases",
    "write",
]

TITLE_LENGTH = 60


def ask(
    session: Session, *, conversation_id: int | None, text: str, targets: Sequence[Target], params: dict[str, Any]
) -> tuple[int, list[int]]:
    """Puts a question to one or two targets; returns the conversation and the ids of the answers to come.

    Conflict where one of them gives no text.
    """
    for target in targets:
        must_talk(target)
    if not 1 <= len(targets) <= 2:
        raise ValueError(f"a question goes to one or two targets, not {len(targets)}")
    chat = _begin(session, text, params) if conversation_id is None else _continue(session, conversation_id, params)
    last = session.execute(select(func.max(message.c.turn)).where(message.c.conversation_id == chat)).scalar()
    turn = 0 if last is None else last + 1
    common = {"conversation_id": chat, "turn": turn, "params": params, "created_at": now()}
    question = {**common, "slot": 0, "role": "user", "content": text, "state": "done", "finished_at": now()}
    session.execute(insert(message).values(question))
    return chat, [_queue(session, {**common, **_address(target), "slot": n}) for n, target in enumerate(targets)]


def regenerate(session: Session, message_id: int, seed: int) -> int:
    """Asks for another answer in the place of the last one of its slot; returns its id."""
    _lock(session, get(session, message_id).conversation_id)
    old = get(session, message_id)
    newest = session.execute(
        select(func.max(message.c.turn)).where(message.c.conversation_id == old.conversation_id)
    ).scalar()
    if old.role != "assistant" or old.superseded or old.turn != newest:
        raise Conflict("message_not_last", {"id": message_id})
    stop(session, message_id)
    session.execute(update(message).where(message.c.id == message_id).values(superseded=True))
    kept = ("conversation_id", "turn", "slot", "target", "adapter_path", "base_key")
    values = {name: getattr(old, name) for name in kept}
    return _queue(session, {**values, "params": {**old.params, "seed": seed}, "created_at": now()})


def stop(session: Session, message_id: int) -> None:
    """Stops an answer: one that waits at once, one that is written as soon as its process looks."""
    get(session, message_id)
    _stop(session, message.c.id == message_id)


def stop_conversation(session: Session, conversation_id: int) -> None:
    """Stops every answer of a conversation that is not finished."""
    _stop(session, message.c.conversation_id == conversation_id)


def get(session: Session, message_id: int) -> Message:
    """One message."""
    row = session.execute(SELECT_MESSAGE.where(message.c.id == message_id)).one_or_none()
    if row is None:
        raise NotFound("message", message_id)
    return to_value(Message, row)


def several(session: Session, message_ids: Sequence[int]) -> list[Message]:
    """Some messages, in order of their ids: what a page polls while answers grow."""
    return to_values(Message, session.execute(SEVERAL, {"ids": list(message_ids)}))


def history(session: Session, message_id: int) -> list[tuple[str, str]]:
    """What the model reads before it answers: the system prompt, the earlier turns of this slot, the question.

    A turn without an answer in this slot lends the other slot's; a turn without any answer is left out, since
    most chat templates refuse two questions in a row.
    """
    own = get(session, message_id)
    spoken = transcript(session, own.conversation_id)
    questions = [one for one in spoken if one.role == "user" and one.turn <= own.turn]
    system = own.params.get("system")
    told: list[tuple[str, str]] = [("system", system)] if system else []
    for question in questions[:-1]:
        answer = _answer(spoken, turn=question.turn, slot=own.slot)
        if answer is not None:
            told += [("user", question.content), ("assistant", answer.content)]
    return [*told, ("user", questions[-1].content)]


def transcript(session: Session, conversation_id: int) -> list[Message]:
    """The conversation as it reads: questions and answers by turn, without answers that were replaced."""
    return to_values(Message, session.execute(TRANSCRIPT, {"conversation_id": conversation_id}))


def newest(session: Session, conversation_id: int) -> int | None:
    """The id of the latest message, by which a reader sees that something was added; None without a conversation."""
    latest = select(func.max(message.c.id)).where(message.c.conversation_id == conversation_id)
    return session.execute(latest).scalar()


def conversations(session: Session, *, limit: int = 100) -> list[Conversation]:
    """The conversations, newest first."""
    statement = select_values(conversation, Conversation).order_by(conversation.c.id.desc()).limit(limit)
    return to_values(Conversation, session.execute(statement))


def forget(session: Session, conversation_id: int) -> None:
    """Deletes a conversation with its messages; NotFound where there is none."""
    statement = delete(conversation).where(conversation.c.id == conversation_id).returning(conversation.c.id)
    if session.execute(statement).scalar() is None:
        raise NotFound("conversation", conversation_id)


def _begin(session: Session, text: str, params: dict[str, Any]) -> int:
    title = " ".join(text.split())[:TITLE_LENGTH]
    values = {"title": title, "settings": params, "created_at": now()}
    number: int = session.execute(insert(conversation).values(values).returning(conversation.c.id)).scalar_one()
    return number


def _continue(session: Session, conversation_id: int, params: dict[str, Any]) -> int:
    """Locks the conversation, so that two questions at once get two turns, and keeps its latest settings."""
    here = update(conversation).where(conversation.c.id == conversation_id).values(settings=params)
    number: int | None = session.execute(here.returning(conversation.c.id)).scalar()
    if number is None:
        raise NotFound("conversation", conversation_id)
    return number


def _lock(session: Session, conversation_id: int) -> None:
    """Makes whoever else would add to the conversation wait; what was read of it before must be read anew."""
    session.execute(select(conversation.c.id).where(conversation.c.id == conversation_id).with_for_update())


def _address(target: Target) -> dict[str, Any]:
    return {"target": target.text, "adapter_path": target.adapter_path, "base_key": target.base_key}


def _queue(session: Session, values: dict[str, Any]) -> int:
    row = {"role": "assistant", "state": "queued", **values}
    number: int = session.execute(insert(message).values(row).returning(message.c.id)).scalar_one()
    return number


def _stop(session: Session, where: ColumnElement[bool]) -> None:
    stopped = {"state": "stopped", "stopped_by": "stop", "finished_at": now()}
    session.execute(update(message).where(where, message.c.state == "queued").values(stopped))
    session.execute(update(message).where(where, message.c.state == "running").values(stop_requested=True))


def _answer(messages: Iterable[Message], *, turn: int, slot: int) -> Message | None:
    given = [one for one in messages if one.turn == turn and one.role == "assistant"]
    usable = [one for one in given if one.state in FINISHED and one.state != "failed" and one.content]
    return min(usable, key=lambda one: one.slot != slot, default=None)
