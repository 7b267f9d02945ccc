"""Which columns of an Arrow schema can be read, and the names that stand for numbers in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.formats.strict_json import BadJson, parse
from engine.specs.problem import Problem, ProblemError, problem

if TYPE_CHECKING:
    import pyarrow

MAX_NAMED = 300


def faults() -> tuple[type[Exception], ...]:
    """What the library raises for a broken file; a length that was altered asks for more memory than there is."""
    import pyarrow

    return (pyarrow.ArrowException, OSError, ValueError, MemoryError)


def readable_columns(schema: pyarrow.Schema) -> tuple[list[str], list[Problem]]:
    """The columns of texts, numbers, truth values, and of lists and objects of these; and a warning about the others.

    Raises:
        ProblemError: there is no such column, or two have the same name.
    """
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise ProblemError([problem("file_bad_header", line=1, detail=twice[0][:80])])
    others = ", ".join(f"{field.name} ({field.type})" for field in schema if not _readable(field.type))[:MAX_NAMED]
    names = [field.name for field in schema if _readable(field.type)]
    if not names:
        raise ProblemError([problem("file_no_text_columns", types=others)])
    return names, [problem("columns_left_out", columns=others)] if others else []


def _readable(kind: Any) -> bool:
    from pyarrow import types

    if isinstance(kind, types.lib.BaseExtensionType):
        return False
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _readable(kind.value_type)
    if types.is_struct(kind):
        return all(_readable(kind.field(number).type) for number in range(kind.num_fields))
    if types.is_dictionary(kind):
        return _readable(kind.value_type)
    plain = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_floating)
    return types.is_null(kind) or any(test(kind) for test in plain)


def label_names(schema: pyarrow.Schema) -> dict[str, list[str]]:
    """Column → the names that its numbers stand for, where the file states them as Hugging Face's library does."""
    try:
        stated = parse((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = stated["info"]["features"]
        found = {name: one["names"] for name, one in features.items() if one.get("_type") == "ClassLabel"}
    except (BadJson, KeyError, TypeError, AttributeError):
        return {}
    return {
        name: names
        for name, names in found.items()
        if isinstance(names, list) and all(isinstance(one, str) for one in names)
    }


def name_labels(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The row with names in place of numbers; a number that has no name says that there is no label."""
    for column, known in names.items():
        value = row.get(column)
        if isinstance(value, int):
            row[column] = known[value] if 0 <= value < len(known) else None
    return row
