"""A corpus of small files: every shape in every container with every defect, each with what must come of it."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

import pyarrow
import pyarrow.parquet as pq
from pyarrow import ipc

Raw = dict[str, Any]
BAD = 1
"""The place, from 0, of the row that has the defect."""


@dataclass(frozen=True)
class Shape:
    """Good rows of a format, and how one of them is spoiled."""

    kind: str
    rows: Sequence[Raw]
    put: Callable[[Raw, Any], None]
    """Sets the main text of a row."""
    column: str
    """The column that it stands in."""
    made: int = 1
    """How many canonical rows a row becomes."""
    empty: str = "row_empty_answer"
    """What is said of an empty main text."""
    gone: str | None = None
    """What is said where the whole column is empty; as `empty` unless set."""
    other: str | None = None
    """What is said of a number in a table, where it is text; nothing unless set."""
    nested: bool = False
    """Whether the text stands inside a list: then it keeps its type in a CSV cell."""


@dataclass(frozen=True)
class Case:
    """A file and what must come of it."""

    name: str
    content: bytes
    refusal: str | None = None
    format: str = ""
    rows: int = 0
    usable: int = 0
    problems: Sequence[tuple[str, int]] = field(default_factory=tuple)


def _chat(number: int) -> list[Raw]:
    return [{"role": "user", "content": f"question {number}"}, {"role": "assistant", "content": f"answer {number}"}]


def _spoken(number: int) -> list[Raw]:
    return [{"from": "human", "value": f"question {number}"}, {"from": "gpt", "value": f"answer {number}"}]


def _with_tools(number: int) -> Raw:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": 1}'}}
    messages = [
        {"role": "user", "content": f"question {number}"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "assistant", "content": f"answer {number}"},
    ]
    return {"messages": messages, "tools": json.dumps([{"name": "add"}])}


def _dialogue(number: int, answer: str) -> str:
    return f"\n\nHuman: question {number}\n\nAssistant: {answer}"


def _in_column(column: str) -> Callable[[Raw, Any], None]:
    return lambda row, value: row.__setitem__(column, value)


def _in_list(column: str, place: int, key: str | None = None) -> Callable[[Raw, Any], None]:
    def put(row: Raw, value: Any) -> None:
        if key is None:
            row[column][place] = value
        else:
            row[column][place][key] = value

    return put


def _in_dialogue(row: Raw, value: Any) -> None:
    row["chosen"] = _dialogue(2, value) if isinstance(value, str) else value


def _three(make: Callable[[int], Raw]) -> list[Raw]:
    return [make(number) for number in (1, 2, 3)]


SHAPES: Mapping[str, Shape] = {
    "messages": Shape(
        "messages",
        _three(lambda n: {"messages": _chat(n)}),
        _in_list("messages", 1, "content"),
        "messages",
        gone="row_missing_field",
        nested=True,
    ),
    "messages with tools": Shape(
        "messages",
        _three(_with_tools),
        _in_list("messages", 3, "content"),
        "messages",
        gone="row_missing_field",
        nested=True,
    ),
    "sharegpt": Shape(
        "sharegpt",
        _three(lambda n: {"conversations": _spoken(n)}),
        _in_list("conversations", 1, "value"),
        "conversations",
        gone="row_missing_field",
        nested=True,
    ),
    "alpaca": Shape(
        "alpaca",
        _three(lambda n: {"instruction": f"do {n}", "input": "this", "output": f"done {n}"}),
        _in_column("output"),
        "output",
    ),
    "questions": Shape(
        "prompt_completion",
        _three(lambda n: {"question": f"question {n}", "answer": f"answer {n}"}),
        _in_column("answer"),
        "answer",
    ),
    "preference": Shape(
        "preference",
        _three(lambda n: {"prompt": f"question {n}", "chosen": f"good {n}", "rejected": f"bad {n}"}),
        _in_column("chosen"),
        "chosen",
    ),
    "transcripts": Shape(
        "preference",
        _three(lambda n: {"chosen": _dialogue(n, f"good {n}"), "rejected": _dialogue(n, f"bad {n}")}),
        _in_dialogue,
        "chosen",
        other="row_no_prompt",
    ),
    "rankings": Shape(
        "rankings",
        _three(lambda n: {"prompt": f"question {n}", "responses": ["a", "b", "c"], "rank": [2, 3, 1]}),
        _in_list("responses", 0),
        "responses",
        made=2,
        gone="row_no_answer",
        nested=True,
    ),
    "scored": Shape(
        "scored",
        _three(lambda n: {"prompt": f"question {n}", "responses": ["a", "b"], "scores": [0.5, 4.0]}),
        _in_list("responses", 0),
        "responses",
        made=2,
        gone="row_no_answer",
        nested=True,
    ),
    "kto": Shape(
        "kto",
        _three(lambda n: {"prompt": f"question {n}", "completion": f"answer {n}", "label": n == 1}),
        _in_column("completion"),
        "completion",
    ),
    "classification": Shape(
        "classification",
        _three(lambda n: {"text": f"text {n}", "label": "good"}),
        _in_column("text"),
        "text",
        empty="row_empty_question",
    ),
    "entities": Shape(
        "entities",
        _three(lambda n: {"entity": f"thing {n}", "facts": ["is there", "was there"]}),
        _in_column("entity"),
        "entity",
        empty="row_empty_text",
    ),
    "text": Shape(
        "text",
        _three(lambda n: {"title": f"title {n}", "text": f"text {n}"}),
        _in_column("text"),
        "text",
        empty="row_empty_text",
    ),
}


@dataclass(frozen=True)
class Container:
    """How rows are written, and on which line the spoiled one then stands."""

    write: Callable[[Sequence[Raw]], bytes]
    counts: str = "rows"
    """What problems count: `rows`, `lines` of one row each, or lines of a `table`."""
    written_as: str = "text"
    """`text`, `typed` columns, or `packed`."""
    cut: str = ""
    """What is said when the file's end is cut off; nothing where that is a problem of the last row."""


def _lines(rows: Sequence[Raw]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def _table(delimiter: str) -> Callable[[Sequence[Raw]], bytes]:
    def write(rows: Sequence[Raw]) -> bytes:
        made = io.StringIO()
        names = list(dict.fromkeys(name for row in rows for name in row))
        writer = csv.writer(made, delimiter=delimiter, lineterminator="\n")
        writer.writerow(names)
        writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
        return made.getvalue().encode()

    return write


def _cell(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "" if value is None else json.dumps(value)


def _parquet(rows: Sequence[Raw]) -> bytes:
    made = io.BytesIO()
    pq.write_table(_arrow_table(rows), made)
    return made.getvalue()


def _arrow(opening: Callable[..., Any]) -> Callable[[Sequence[Raw]], bytes]:
    def write(rows: Sequence[Raw]) -> bytes:
        made = io.BytesIO()
        table = _arrow_table(rows)
        with opening(made, table.schema) as writer:
            writer.write_table(table)
        return made.getvalue()

    return write


def _arrow_table(rows: Sequence[Raw]) -> pyarrow.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    return pyarrow.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])


def _packed(write: Callable[[Sequence[Raw]], bytes]) -> Callable[[Sequence[Raw]], bytes]:
    return lambda rows: gzip.compress(write(rows), mtime=0)


def _array(rows: Sequence[Raw]) -> bytes:
    return json.dumps(rows).encode()


def _pretty(rows: Sequence[Raw]) -> bytes:
    return "\n".join(json.dumps(row, indent=2) for row in rows).encode()


CONTAINERS: Mapping[str, Container] = {
    "jsonl": Container(_lines, "lines"),
    "json": Container(_array, cut="file_json_broken"),
    "json around": Container(lambda rows: json.dumps({"data": rows}, indent=1).encode(), cut="file_json_broken"),
    "json one by one": Container(_pretty, cut="file_json_broken"),
    "csv": Container(_table(","), "table"),
    "tsv": Container(_table("\t"), "table"),
    "parquet": Container(_parquet, written_as="typed", cut="file_parquet_broken"),
    "arrow": Container(_arrow(ipc.new_file), written_as="typed", cut="file_arrow_broken"),
    "arrow stream": Container(_arrow(ipc.new_stream), written_as="typed"),
    "jsonl.gz": Container(_packed(_lines), "lines", "packed", "file_gzip_broken"),
    "csv.gz": Container(_packed(_table(",")), "table", "packed", "file_gzip_broken"),
    "parquet.gz": Container(_packed(_parquet), written_as="typed", cut="file_gzip_broken"),
}
TABLES = ("csv", "tsv", "csv.gz")
TYPED = ("parquet", "arrow", "arrow stream", "parquet.gz")


def cases(shape_name: str, container_name: str) -> Iterator[Case]:
    """All files of a shape in a container."""
    shape, container = SHAPES[shape_name], CONTAINERS[container_name]
    yield _good(shape, container, "good", container.write(shape.rows))
    yield from _row_defects(shape, container, container_name)
    yield from _file_defects(shape, container, container_name)


def _row_defects(shape: Shape, container: Container, name: str) -> Iterator[Case]:
    gone = shape.gone or shape.empty
    yield _spoiled(shape, container, "empty", "", shape.empty)
    yield _spoiled(shape, container, "null", None, shape.empty)
    yield _spoiled(shape, container, "NUL", "a\0b", "row_nul")
    yield _spoiled(shape, container, "private marker", "a\U000f0000b", "row_private_marker")
    if name not in TYPED:
        code = shape.other if name in TABLES and not shape.nested else "row_not_text"
        yield _spoiled(shape, container, "number", 7, code)
    if name not in (*TYPED, *TABLES):
        yield _spoiled(shape, container, "half a character", "a\ud800b", "row_half_character")
    yield _changed(shape, container, "no column", lambda row: row.pop(shape.column), _missing(name, gone))
    yield _changed(shape, container, "an image", lambda row: row.update(image="a.png"), "row_not_only_text")
    if name not in (*TYPED, *TABLES):
        yield _changed(shape, container, "another shape", _become_another, "row_other_shape")


def _missing(container: str, gone: str) -> str:
    """A row of a table has all columns: the cell is empty."""
    return gone if container in (*TYPED, *TABLES) else "row_missing_field"


def _become_another(row: Raw) -> None:
    other = {"messages": _chat(2)} if "instruction" in row else {"instruction": "do", "output": "done"}
    row.clear()
    row.update(other)


def _file_defects(shape: Shape, container: Container, name: str) -> Iterator[Case]:
    good = container.write(shape.rows)
    if container.cut:
        yield Case("cut", good[:-5], refusal=container.cut)
    if container.written_as != "text":
        return
    yield _good(shape, container, "byte order mark", b"\xef\xbb\xbf" + good)
    yield _good(shape, container, "UTF-16", good.decode().encode("utf-16"))
    yield _good(
        shape, container, "blank lines at the end", good + b"\n\n  \n" if name not in TABLES else good + b"\n\n"
    )
    yield Case("another coding", good + b"\xe9", refusal="file_not_utf8")
    yield Case("nothing", b"", refusal="file_empty")
    yield Case("blanks", b" \n\t\n", refusal="file_empty")
    if name == "jsonl":
        yield from _line_defects(shape, container, good)


def _line_defects(shape: Shape, container: Container, good: bytes) -> Iterator[Case]:
    yield _good(shape, container, "CRLF", good.replace(b"\n", b"\r\n"))
    yield _good(shape, container, "CR", good.replace(b"\n", b"\r"))
    yield _good(shape, container, "no last newline", good.rstrip(b"\n"))
    lines = {
        "a broken line": (b'{"a": ', "row_not_json"),
        "a line that is no object": (b"[1]", "row_not_object"),
        "a key twice": (b'{"a": 1, "a": 2}', "row_duplicate_key"),
        "NaN": (b'{"a": NaN}', "row_bad_number"),
        "infinity": (b'{"a": -Infinity}', "row_bad_number"),
        "5000 digits": (b'{"a": ' + b"1" * 5000 + b"}", "row_bad_number"),
        "deep nests": (b'{"a": ' + b"[" * 100_000, "row_too_deep"),
        "a huge line": (b'{"a": "' + b"x" * 4_000_000 + b'"}', "row_too_long"),
    }
    for name, (line, code) in lines.items():
        yield Case(
            name,
            good + line + b"\n" + _lines(shape.rows[:1]),
            format=shape.kind,
            rows=5,
            usable=4 * shape.made,
            problems=((code, 4),),
        )


def _good(shape: Shape, container: Container, name: str, content: bytes) -> Case:
    return Case(name, content, format=shape.kind, rows=3, usable=3 * shape.made)


def _spoiled(shape: Shape, container: Container, name: str, value: Any, code: str | None) -> Case:
    return _changed(shape, container, name, lambda row: shape.put(row, value), code)


def _changed(shape: Shape, container: Container, name: str, change: Callable[[Raw], Any], code: str | None) -> Case:
    rows = deepcopy(list(shape.rows))
    change(rows[BAD])
    content = container.write(rows)
    if code is None:
        return _good(shape, container, name, content)
    place = BAD + 1
    if container.counts == "table":
        table = container.write(rows[:BAD])
        plain = gzip.decompress(table) if container.written_as == "packed" else table
        place = plain.count(b"\n") + 1
    return Case(name, content, None, shape.kind, 3, 2 * shape.made, ((code, place),))


def pdf(*pages: str) -> bytes:
    """A PDF file of a few objects; a page is a line of text, or empty."""
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for i, text in enumerate(pages):
        drawn = f"BT /F1 12 Tf 10 10 Td ({text}) Tj ET" if text else ""
        page = f"<< /Type /Page /Parent 2 0 R /Contents {5 + 2 * i} 0 R /Resources << /Font << /F1 3 0 R >> >> >>"
        objects += [page, f"<< /Length {len(drawn)} >>\nstream\n{drawn}\nendstream"]
    made, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(made))
        made += f"{number} 0 obj\n{content}\nendobj\n"
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    return f"{made}xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{len(made)}\n%%EOF".encode()
