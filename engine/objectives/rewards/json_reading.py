"""An answer as JSON, and whether it fits a schema: a strict part of JSON Schema 2020-12.

What the part does not know is refused when the schema is given, never passed over: a keyword without effect would
let answers through that the schema forbids.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

NO_JSON: Any = object()
"""What is read from an answer that is no JSON."""
DEEPEST = 50
_FENCE = re.compile(r"```[A-Za-z]*\s*\n(.*)\n\s*```", re.DOTALL)
TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: not isinstance(value, bool) and isinstance(value, int | float) and value == int(value),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
NOTES = frozenset(("$schema", "$id", "$comment", "title", "description", "examples", "default"))
"""Keywords that say something to people and forbid nothing."""


def read(text: str) -> Any:
    """The value of an answer that is JSON as a whole, alone or in a code fence; `NO_JSON` otherwise."""
    bare = text.strip()
    fenced = _FENCE.fullmatch(bare)
    try:
        return json.loads(fenced[1] if fenced else bare, parse_constant=_refuse, parse_float=_finite)
    except (ValueError, RecursionError):
        return NO_JSON


def _refuse(name: str) -> Any:
    raise ValueError(name)


def _finite(written: str) -> float:
    value = float(written)
    return value if math.isfinite(value) else _refuse(written)


def unknown(schema: Any, depth: int = 0) -> str | None:
    """What in a schema is not understood: a keyword, or a keyword with the wrong kind of value; None where nothing."""
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, dict) or depth > DEEPEST:
        return json.dumps(schema)[:60]
    for keyword, value in schema.items():
        if keyword in NOTES:
            continue
        if keyword not in KEYWORDS or not SHAPES[keyword](value):
            return str(keyword)
        for part in _parts(keyword, value):
            if (found := unknown(part, depth + 1)) is not None:
                return found
    return None


def fits(value: Any, schema: Any) -> bool:
    """Whether a value is what a schema, in which nothing is `unknown`, describes."""
    if isinstance(schema, bool):
        return schema
    return all(KEYWORDS[name](value, told, schema) for name, told in schema.items() if name not in NOTES)


def _parts(keyword: str, value: Any) -> Iterator[Any]:
    if keyword in ("items", "additionalProperties", "not"):
        yield value
    elif keyword == "properties":
        yield from value.values()
    elif keyword in ("anyOf", "allOf", "oneOf"):
        yield from value


def _same(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True) or (
        TYPES["number"](one) and TYPES["number"](other) and one == other
    )


def _types(value: Any, told: Any, _schema: Any) -> bool:
    return any(TYPES[name](value) for name in ([told] if isinstance(told, str) else told))


def _properties(value: Any, told: Any, _schema: Any) -> bool:
    return not isinstance(value, dict) or all(fits(value[name], part) for name, part in told.items() if name in value)


def _additional(value: Any, told: Any, schema: Mapping[str, Any]) -> bool:
    if not isinstance(value, dict):
        return True
    return all(fits(part, told) for name, part in value.items() if name not in schema.get("properties", {}))


def _required(value: Any, told: Any, _schema: Any) -> bool:
    return not isinstance(value, dict) or all(name in value for name in told)


def _items(value: Any, told: Any, _schema: Any) -> bool:
    return not isinstance(value, list) or all(fits(part, told) for part in value)


def _unique(value: Any, told: Any, _schema: Any) -> bool:
    if not told or not isinstance(value, list):
        return True
    written = [json.dumps(part, sort_keys=True) for part in value]
    return len(set(written)) == len(written)


def _bound(kind: str, measure: Callable[[Any], float], holds: Callable[[float, float], bool]) -> Callable[..., bool]:
    """A limit on values of one kind; of any other it says nothing."""
    return lambda value, told, _schema: not TYPES[kind](value) or holds(measure(value), told)


def _least(measured: float, told: float) -> bool:
    return measured >= told


def _most(measured: float, told: float) -> bool:
    return measured <= told


KEYWORDS: dict[str, Callable[[Any, Any, Any], bool]] = {
    "type": _types,
    "enum": lambda value, told, _schema: any(_same(value, one) for one in told),
    "const": lambda value, told, _schema: _same(value, told),
    "properties": _properties,
    "additionalProperties": _additional,
    "required": _required,
    "items": _items,
    "uniqueItems": _unique,
    "anyOf": lambda value, told, _schema: any(fits(value, part) for part in told),
    "allOf": lambda value, told, _schema: all(fits(value, part) for part in told),
    "oneOf": lambda value, told, _schema: sum(fits(value, part) for part in told) == 1,
    "not": lambda value, told, _schema: not fits(value, told),
    "minimum": _bound("number", float, _least),
    "maximum": _bound("number", float, _most),
    "exclusiveMinimum": _bound("number", float, lambda measured, told: measured > told),
    "exclusiveMaximum": _bound("number", float, lambda measured, told: measured < told),
    "minLength": _bound("string", len, _least),
    "maxLength": _bound("string", len, _most),
    "minItems": _bound("array", len, _least),
    "maxItems": _bound("array", len, _most),
    "minProperties": _bound("object", len, _least),
    "maxProperties": _bound("object", len, _most),
}


def _names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_types(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value
    return _names(names) and bool(names) and all(name in TYPES for name in names)


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and bool(value)


def _anything(_value: Any) -> bool:
    return True


_NUMBERS = [name for name in KEYWORDS if name.startswith(("min", "max", "exclusive"))]
SHAPES: dict[str, Callable[[Any], bool]] = {
    "type": _is_types,
    "enum": _is_list,
    "const": _anything,
    "properties": TYPES["object"],
    "additionalProperties": _anything,
    "required": _names,
    "items": _anything,
    "uniqueItems": TYPES["boolean"],
    "anyOf": _is_list,
    "allOf": _is_list,
    "oneOf": _is_list,
    "not": _anything,
    **dict.fromkeys(_NUMBERS, TYPES["number"]),
}
"""What the value of each keyword has to be."""
