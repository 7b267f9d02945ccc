"""From a row's own values to canonical messages, with every rule that a conversation must keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.formats.strict_json import BadJson, parse
from engine.specs.problem import Problem, problem

Message = dict[str, Any]
ROLES = ("system", "user", "assistant")
MAX_ROW_CHARACTERS = 4_000_000
PRIVATE_MARKERS = ("\U000f0000", "\U000f0001")


class BadRow(ValueError):
    """A row cannot be read; `problems` say why, without its line, which the caller knows."""

    def __init__(self, *problems: Problem) -> None:
        self.problems = problems
        super().__init__(", ".join(found.code for found in problems))


def message(role: str, content: str, train: bool | None = None) -> Message:
    """A canonical message. `tool_calls` is JSON: a list of `{"id", "type", "function": {"name", "arguments"}}`."""
    return {"role": role, "content": content, "train": train, "tool_calls": None, "tool_call_id": None, "name": None}


def text_of(value: Any, *, field: str) -> str:
    """A text as it stands, or the text parts of a list of parts.

    Raises:
        BadRow: it is no text, or holds what cannot be stored.
    """
    if isinstance(value, list):
        value = "".join(_part(part, field=field) for part in value)
    if not isinstance(value, str):
        raise BadRow(problem("row_not_text", field=field, given=_kind(value)))
    _check_characters(value, field=field)
    return value


def optional_text(value: Any, *, field: str) -> str:
    """As `text_of`; an absent value is the empty text."""
    return "" if value is None else text_of(value, field=field)


def objects_of(value: Any, *, field: str) -> list[Mapping[str, Any]]:
    """A list of objects, given as such or as its JSON (the only way for a CSV cell).

    Raises:
        BadRow: it is neither.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = parse(value.encode("utf-8"))
        except (BadJson, UnicodeEncodeError) as error:
            raise BadRow(problem("row_bad_cell_json", field=field)) from error
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise BadRow(problem("row_not_messages", field=field, given=_kind(value)))
    return value


def chat_message(item: Mapping[str, Any], *, field: str) -> Message:
    """A message of the `role`/`content` kind.

    Raises:
        BadRow: it is none.
    """
    role = item.get("role")
    if role not in ROLES:
        raise BadRow(problem("row_unknown_role", field=f"{field}.role", role=_short(role), allowed=", ".join(ROLES)))
    if item.get("tool_calls") or item.get("function_call"):
        raise BadRow(problem("row_tool_call", field=f"{field}.tool_calls"))
    content = text_of(item["content"], field=f"{field}.content") if item.get("content") is not None else ""
    return message(str(role), content, _train(item, field=field))


def turns(value: Any, role: str, *, field: str) -> list[dict[str, Any]]:
    """Messages from a text, which becomes one of `role`, or from a list of messages.

    Raises:
        BadRow: it is neither.
    """
    if value is None:
        return [message(role, "")]
    if isinstance(value, list) and value and isinstance(value[0], Mapping) and "role" in value[0]:
        return [chat_message(item, field=field) for item in objects_of(value, field=field)]
    return [message(role, text_of(value, field=field))]


def check_conversation(messages: Sequence[Message], *, field: str) -> None:
    """Refuse what is wrong with a conversation as a whole.

    Raises:
        BadRow: with every problem.
    """
    found = faults_of(messages, field=field)
    if found:
        raise BadRow(*found)


def faults_of(messages: Sequence[Message], *, field: str) -> list[Problem]:
    """What is wrong with a conversation as a whole."""
    found: list[Problem] = []
    turns = [item for item in messages if item["role"] != "system"]
    if any(item["role"] == "system" for item in messages[1:]):
        found.append(problem("row_system_not_first", field=field))
    if not any(item["role"] == "assistant" for item in turns):
        found.append(problem("row_no_answer", field=field))
    elif turns[0]["role"] != "user":
        found.append(problem("row_starts_with_answer", field=field))
    for before, after in pairwise(turns):
        if before["role"] == after["role"]:
            found.append(problem("row_same_role_twice", field=field, role=before["role"]))
            break
    for item in turns:
        if not item["content"].strip():
            code = "row_empty_answer" if item["role"] == "assistant" else "row_empty_question"
            found.append(problem(code, field=field))
            break
    return found


def _part(part: Any, *, field: str) -> str:
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    kind = part.get("type") if isinstance(part, Mapping) else _kind(part)
    raise BadRow(problem("row_part_not_text", field=field, given=_short(kind)))


def _check_characters(text: str, *, field: str) -> None:
    if len(text) > MAX_ROW_CHARACTERS:
        raise BadRow(problem("row_too_long", field=field, limit=MAX_ROW_CHARACTERS))
    if "\0" in text:
        raise BadRow(problem("row_nul", field=field))
    if any(marker in text for marker in PRIVATE_MARKERS):
        raise BadRow(problem("row_private_marker", field=field))
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise BadRow(problem("row_half_character", field=field)) from error


def _train(item: Mapping[str, Any], *, field: str) -> bool | None:
    for key in ("train", "weight"):
        value = item.get(key)
        if value is None:
            continue
        if value not in (0, 1) or isinstance(value, str):
            raise BadRow(problem("row_bad_train_flag", field=f"{field}.{key}", given=_short(value)))
        return bool(value)
    return None


def _kind(value: Any) -> str:
    names = {
        type(None): "null",
        bool: "true/false",
        int: "number",
        float: "number",
        list: "list",
        dict: "object",
        str: "text",
    }
    return names.get(type(value), type(value).__name__)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
