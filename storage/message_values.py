"""What a conversation and a message look like outside the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, case

from storage.rows import select_values, table_of
from storage.tables import ConversationRow, MessageRow

conversation = table_of(ConversationRow)
message = table_of(MessageRow)
FINISHED = ("done", "failed", "stopped")


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat, by the beginning of its first message."""

    id: int
    title: str
    settings: dict[str, Any]
    created_at: float


@dataclass(frozen=True, slots=True)
class Message:
    """A question of a person, or an answer that a chat process writes as it is generated."""

    id: int
    conversation_id: int
    turn: int
    slot: int
    """0, or 1 for the second of two targets side by side."""
    role: str
    content: str
    target: str | None
    adapter_path: str | None
    base_key: str | None
    state: str
    """queued, running, done, failed or stopped"""
    params: dict[str, Any]
    """system, temperature, max_tokens, seed"""
    superseded: bool
    stop_requested: bool
    stopped_by: str | None
    """eos, length or stop"""
    num_tokens: int
    seconds: float | None
    reason: str | None
    values: dict[str, Any]
    process_id: int | None
    created_at: float
    started_at: float | None
    first_token_at: float | None
    finished_at: float | None


SELECT_MESSAGE = select_values(message, Message)
SEVERAL = SELECT_MESSAGE.where(message.c.id.in_(bindparam("ids", expanding=True))).order_by(message.c.id)
TRANSCRIPT = SELECT_MESSAGE.where(
    message.c.conversation_id == bindparam("conversation_id"), message.c.superseded.is_(False)
).order_by(message.c.turn, case((message.c.role == "user", 0), else_=1), message.c.slot, message.c.id)
