"""Tools in a conversation: the calls of an answer and the definitions beside it, as canonical JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson

from engine.formats.messages_of import BadRow, check_characters, json_cell, kind_of, short
from engine.formats.strict_json import BadJson, parse
from engine.specs.problem import problem


def calls_in(item: Mapping[str, Any], *, field: str) -> str | None:
    """The calls of a message: `tool_calls`, or the `function_call` of old; None where it calls nothing.

    Raises:
        BadRow: they are broken.
    """
    if calls := item.get("tool_calls"):
        return calls_of(calls, field=f"{field}.tool_calls")
    if call := item.get("function_call"):
        return calls_of(call, field=f"{field}.function_call")
    return None


def calls_of(value: Any, *, field: str) -> str:
    """Calls as JSON: a list of `{"id", "type": "function", "function": {"name", "arguments"}}`.

    Raises:
        BadRow: a call has no name, or its arguments are no object.
    """
    value = _unpacked(value, field=field)
    given = value if isinstance(value, list) else [value]
    if not given:
        raise BadRow(problem("row_bad_tool_call", field=field, given="[]"))
    return _json([_call(one, field=field) for one in given], field=field)


def definitions_of(value: Any, *, field: str) -> str | None:
    """Tools as JSON: a list of `{"type": "function", "function": {…}}`; None where there are none.

    Raises:
        BadRow: it is no list of definitions with names.
    """
    value = json_cell(value, field=field)
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        return None
    if not isinstance(value, list):
        raise BadRow(problem("row_bad_tools", field=field, given=kind_of(value)))
    return _json([_definition(one, field=field) for one in value], field=field)


def _call(one: Any, *, field: str) -> dict[str, Any]:
    inner = one.get("function", one) if isinstance(one, Mapping) else None
    name = inner.get("name") if isinstance(inner, Mapping) else None
    if not isinstance(one, Mapping) or not isinstance(inner, Mapping) or not isinstance(name, str) or not name:
        raise BadRow(problem("row_bad_tool_call", field=field, given=short(one)))
    arguments = _unpacked(inner.get("arguments", inner.get("parameters")) or {}, field=field)
    if not isinstance(arguments, Mapping):
        raise BadRow(problem("row_bad_tool_call", field=field, given=short(arguments)))
    number = one.get("id")
    if number is not None and not isinstance(number, str):
        raise BadRow(problem("row_not_text", field=f"{field}.id", given=kind_of(number)))
    return {"id": number, "type": "function", "function": {"name": name, "arguments": arguments}}


def _definition(one: Any, *, field: str) -> dict[str, Any]:
    inner = one.get("function", one) if isinstance(one, Mapping) else None
    if not isinstance(inner, Mapping) or not isinstance(inner.get("name"), str):
        raise BadRow(problem("row_bad_tools", field=field, given=short(one)))
    return {"type": "function", "function": inner}


def _unpacked(value: Any, *, field: str) -> Any:
    """What a JSON text says; another value as it stands."""
    if not isinstance(value, str):
        return value
    try:
        return parse(value.encode("utf-8"))
    except (BadJson, UnicodeEncodeError) as error:
        raise BadRow(problem("row_bad_tool_call", field=field, given=short(value))) from error


def _json(value: Any, *, field: str) -> str:
    _check(value, field=field)
    try:
        text = orjson.dumps(value).decode()
    except TypeError as error:
        raise BadRow(problem("row_bad_tools", field=field, given=short(error))) from error
    check_characters(text, field=field)
    return text


def _check(value: Any, *, field: str) -> None:
    """Refuse texts that cannot be stored, and numbers that JSON has no word for, wherever they stand."""
    if isinstance(value, str):
        check_characters(value, field=field)
    elif isinstance(value, Mapping):
        for key, item in value.items():
            _check(key, field=field)
            _check(item, field=field)
    elif isinstance(value, list):
        for item in value:
            _check(item, field=field)
    elif isinstance(value, float) and not math.isfinite(value):
        raise BadRow(problem("row_bad_number", field=field, given=str(value)))
