"""From a row's own values to canonical messages, with every rule that a conversation must keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from engine.formats.strict_json import BadJson, parse
from engine.specs.problem import Problem, problem

Message = dict[str, Any]
TAKING_TURNS = ["user", "assistant"] * 64
MAX_ROW_CHARACTERS = 4_000_000
MEDIA = ("image", "audio", "video")
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
        raise BadRow(problem("row_not_text", field=field, given=kind_of(value)))
    check_characters(value, field=field)
    return value


def optional_text(value: Any, *, field: str) -> str:
    """As `text_of`; an absent value is the empty text."""
    return "" if value is None else text_of(value, field=field)


def json_cell(value: Any, *, field: str) -> Any:
    """A value as it stands, or what the JSON of a list says: the only way for a list to stand in a CSV cell.

    Raises:
        BadRow: a text begins like a list and is none.
    """
    if not (isinstance(value, str) and value.lstrip().startswith("[")):
        return value
    try:
        return parse(value.encode("utf-8"))
    except (BadJson, UnicodeEncodeError) as error:
        raise BadRow(problem("row_bad_cell_json", field=field)) from error


def objects_of(value: Any, *, field: str) -> list[Mapping[str, Any]]:
    """A list of objects, or its JSON.

    Raises:
        BadRow: it is neither.
    """
    value = json_cell(value, field=field)
    if not isinstance(value, list) or not all(type(item) is dict or isinstance(item, Mapping) for item in value):
        raise BadRow(problem("row_not_messages", field=field, given=kind_of(value)))
    return value


def plain_conversation(value: Any, *, field: str) -> list[Message]:
    """The messages of a list in which a user and an assistant take turns and say something, in texts alone, as in
    nearly all rows of nearly all files; of any other value nothing.

    Raises:
        BadRow: a text holds what cannot be stored.
    """
    if type(value) is not list or not 1 < len(value) <= len(TAKING_TURNS):
        return []
    made = []
    for item, role in zip(value, TAKING_TURNS, strict=False):
        if type(item) is not dict or len(item) != 2 or item.get("role") != role:
            return []
        content = item.get("content")
        if type(content) is not str or not content or content.isspace():
            return []
        made.append(message(role, content))
    for one in made:
        check_characters(one["content"], field=field)
    return made


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
    if _is_plain(messages):
        return []
    found: list[Problem] = []
    turns = [item for item in messages if item["role"] != "system"]
    if any(item["role"] == "system" for item in messages[1:]):
        found.append(problem("row_system_not_first", field=field))
    if not any(item["role"] == "assistant" for item in turns):
        found.append(problem("row_no_answer", field=field))
    elif turns[0]["role"] == "assistant":
        found.append(problem("row_starts_with_answer", field=field))
    for before, after in pairwise(turns):
        if before["role"] == after["role"] != "tool":
            found.append(problem("row_same_role_twice", field=field, role=before["role"]))
            break
    if _has_loose_result(turns):
        found.append(problem("row_tool_without_call", field=field))
    for item in turns:
        if not item["content"].strip() and item["role"] != "tool" and item["tool_calls"] is None:
            code = "row_empty_answer" if item["role"] == "assistant" else "row_empty_question"
            found.append(problem(code, field=field))
            break
    return found


def with_system(messages: list[Message], system: str) -> list[Message]:
    """The conversation with a system text in front, unless it begins with just that."""
    if not system or (messages and messages[0]["role"] == "system" and messages[0]["content"] == system):
        return messages
    return [message("system", system), *messages]


def _is_plain(messages: Sequence[Message]) -> bool:
    """Whether questions and answers that say something take turns, as in nearly all conversations."""
    roles = [item["role"] for item in messages]
    turns = roles[1:] if roles[:1] == ["system"] else roles
    contents = [item["content"] for item in messages[len(roles) - len(turns) :]]
    return (
        len(turns) > 1 and turns == TAKING_TURNS[: len(turns)] and all(contents) and not any(map(str.isspace, contents))
    )


def _has_loose_result(turns: Sequence[Message]) -> bool:
    """Whether a tool's result follows no call."""
    called = False
    for item in turns:
        if item["role"] != "tool":
            called = item["tool_calls"] is not None
        elif not called:
            return True
    return False


def _part(part: Any, *, field: str) -> str:
    kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
    if isinstance(part, Mapping) and kind == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    medium = next((word for word in MEDIA if isinstance(kind, str) and word in kind), None)
    if medium is not None:
        raise BadRow(problem("row_not_only_text", field=field, given=medium))
    raise BadRow(problem("row_part_not_text", field=field, given=short(kind)))


def check_characters(text: str, *, field: str) -> None:
    """Refuse what cannot be stored.

    Raises:
        BadRow: the text is too long, or holds such a character.
    """
    if len(text) > MAX_ROW_CHARACTERS:
        raise BadRow(problem("row_too_long", field=field, limit=MAX_ROW_CHARACTERS))
    if "\0" in text:
        raise BadRow(problem("row_nul", field=field))
    if text.isascii():
        return
    if PRIVATE_MARKERS[0] in text or PRIVATE_MARKERS[1] in text:  # `any` takes longer than all the rest
        raise BadRow(problem("row_private_marker", field=field))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise BadRow(problem("row_half_character", field=field)) from error


def kind_of(value: Any) -> str:
    """What a value is, in a word."""
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


def short(value: Any) -> str:
    """A value as a text that fits into a sentence."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
