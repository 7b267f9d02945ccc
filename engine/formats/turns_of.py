"""Turns of a conversation in each way that they are written: chat messages, speakers, pairs, whole transcripts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engine.formats.messages_of import (
    BadRow,
    Message,
    check_characters,
    json_cell,
    message,
    objects_of,
    optional_text,
    short,
    text_of,
)
from engine.formats.tools_of import calls_in, calls_of
from engine.specs.problem import problem

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
}
CALL = "call"
SPEAKERS = {
    "human": "user",
    "user": "user",
    "prompter": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "system": "system",
    "tool": "tool",
    "observation": "tool",
    "function": "tool",
    "function_response": "tool",
    "function_call": CALL,
    "tool_call": CALL,
}
SPEAKER_KEYS = ("from", "role", "user", "speaker")
TEXT_KEYS = ("value", "content", "text", "message")
QUESTION_KEYS = ("human", "user")
ANSWER_KEYS = ("assistant", "gpt", "bot")
_TRANSCRIPT = re.compile(r"\s*Human:.*?\n\n(?:Assistant|Human):", re.DOTALL)
_SPEAKER = re.compile(r"\n\n(Human|Assistant):")


def chat_message(item: Mapping[str, Any], *, field: str) -> Message:
    """A message of the `role`/`content` kind.

    Raises:
        BadRow: it is none.
    """
    given, content = item.get("role"), item.get("content")
    role = ROLES.get(given) if isinstance(given, str) else None
    if role is not None and len(item) == 2 and type(content) is str:  # nearly all messages of nearly all files
        check_characters(content, field=f"{field}.content")
        return message(role, content)
    if role is None:
        raise BadRow(problem("row_unknown_role", field=f"{field}.role", role=short(given), allowed=", ".join(ROLES)))
    calls = calls_in(item, field=field)
    if calls is not None and role != "assistant":
        raise BadRow(problem("row_call_of_another", field=f"{field}.tool_calls", role=short(given)))
    made = message(role, optional_text(content, field=f"{field}.content"), _train(item, field=field))
    made["tool_calls"] = calls
    if role == "tool":
        for key in ("tool_call_id", "name"):
            made[key] = optional_text(item.get(key), field=f"{field}.{key}") or None
    return made


def spoken_turns(item: Mapping[str, Any], *, field: str) -> list[Message]:
    """A turn by its speaker, under any of the usual keys; two turns of an item that holds question and answer.

    Raises:
        BadRow: it is none.
    """
    if pair := pair_keys(item):
        question, answer = (text_of(item[key], field=f"{field}.{key}") for key in pair)
        return [message("user", question), message("assistant", answer)]
    speaker_key, text_key = speaker_keys(item)
    speaker, content = item.get(speaker_key), item.get(text_key)
    role = SPEAKERS.get(speaker.strip().lower().replace("-", "_")) if isinstance(speaker, str) else None
    if role is None:
        allowed = ", ".join(SPEAKERS)
        raise BadRow(problem("row_unknown_role", field=f"{field}.{speaker_key}", role=short(speaker), allowed=allowed))
    if role == CALL:
        made = message("assistant", "")
        made["tool_calls"] = calls_of(content, field=f"{field}.{text_key}")
        return [made]
    made = message(role, optional_text(content, field=f"{field}.{text_key}"), _train(item, field=field))
    if role == "assistant":
        made["tool_calls"] = calls_in(item, field=field)
    return [made]


def turns(value: Any, role: str, *, field: str) -> list[Message]:
    """Messages from a text, which becomes one of `role`, from a message, or from a list of messages.

    Raises:
        BadRow: it is none of them.
    """
    if value is None:
        return [message(role, "")]
    given = [value] if isinstance(value, Mapping) else value
    first = first_item(given) if isinstance(given, list) else None
    if first is None or not ({"role", "from"} & set(first)):
        return [message(role, text_of(value, field=field))]
    return [turn for item in objects_of(given, field=field) for turn in _turn(item, field=field)]


def prompt_turns(value: Any, *, field: str) -> list[Message]:
    """What comes before an answer: as `turns`; a transcript may end where the answer is to begin.

    Raises:
        BadRow: it is none.
    """
    found = transcript(value, field=field) or turns(value, "user", field=field)
    return found[:-1] if found[-1]["role"] == "assistant" and not found[-1]["content"] else found


def transcript(value: Any, *, field: str) -> list[Message]:
    """The turns of a text that says `Human:` and `Assistant:` in front of each; nothing of another value.

    Raises:
        BadRow: it holds what cannot be stored.
    """
    if not is_transcript(value):
        return []
    pieces = _SPEAKER.split("\n\n" + text_of(value, field=field).lstrip())
    return [
        message("user" if speaker == "Human" else "assistant", content.strip())
        for speaker, content in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def is_transcript(value: Any) -> bool:
    """Whether a value is a text of turns, each with its speaker in front."""
    return isinstance(value, str) and _TRANSCRIPT.match(value) is not None


def first_item(value: Any) -> Mapping[str, Any] | None:
    """The first object of a list of objects, or of its JSON."""
    try:
        value = json_cell(value, field="")
    except BadRow:
        return None
    return value[0] if isinstance(value, list) and value and isinstance(value[0], Mapping) else None


def speaker_keys(item: Mapping[str, Any]) -> tuple[str, str]:
    """The keys of an item's speaker and text; `from` and `value` where it has none."""
    speaker = next((key for key in SPEAKER_KEYS if key in item), SPEAKER_KEYS[0])
    return speaker, next((key for key in TEXT_KEYS if key in item), TEXT_KEYS[0])


def pair_keys(item: Mapping[str, Any]) -> tuple[str, str] | None:
    """The keys of an item that holds a question and its answer."""
    question = next((key for key in QUESTION_KEYS if key in item), None)
    answer = next((key for key in ANSWER_KEYS if key in item), None)
    return (question, answer) if question and answer else None


def _turn(item: Mapping[str, Any], *, field: str) -> list[Message]:
    return spoken_turns(item, field=field) if "from" in item else [chat_message(item, field=field)]


def _train(item: Mapping[str, Any], *, field: str) -> bool | None:
    for key in ("train", "weight"):
        value = item.get(key)
        if value is None:
            continue
        if value not in (0, 1) or isinstance(value, str):
            raise BadRow(problem("row_bad_train_flag", field=f"{field}.{key}", given=short(value)))
        return bool(value)
    return None
