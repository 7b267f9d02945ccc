"""Plain conversations: lines that hold nothing but turns of texts, read straight into columns.

Large files of conversations are mostly such lines, and this takes a third of the time that rows take one by one. It
says nothing of what is wrong: lines of which any is not surely plain are left to that other way, which would make the
same of all that is read here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
import pyarrow
import pyarrow.compute as pc
import pyarrow.json

from engine.data.reading_json import MAX_ROW_BYTES
from engine.data.rows import MESSAGE, MESSAGES, SCHEMAS, Batch, canonical, digest
from engine.data.shape import Shape
from engine.formats.messages_of import PRIVATE_MARKERS

SCHEMA = SCHEMAS["conversation"]
ROLES = ("user", "assistant", "system")
SYSTEM = ROLES.index("system")
UNSTORABLE = {b"\0", *(marker.encode()[:1] for marker in PRIVATE_MARKERS)}
"""A zero, and the first byte of the markers and of other characters that are hardly ever seen."""


@dataclass(frozen=True, slots=True)
class Turns:
    """How a format writes them: the role of the one column, the keys of a turn, and its words for `ROLES`."""

    role: str
    speaker: str
    text: str
    words: tuple[str, str, str]


TURNS = {
    "messages": Turns("messages", "role", "content", ROLES),
    "sharegpt": Turns("conversations", "from", "value", ("human", "gpt", "system")),
}
"""By kind of format."""


def plain_batch(shape: Shape, text: bytes) -> Batch | None:
    """The rows of some whole lines; None where any of them may be no plain conversation."""
    turns = TURNS.get(shape.kind)
    if turns is None or shape.columns.mapping.keys() != {turns.role} or len(text) > MAX_ROW_BYTES:
        return None
    lists = _lists(text, shape.columns.mapping[turns.role], turns)
    if lists is None:
        return None
    speakers, contents = lists.flatten().flatten()
    numbers = pc.index_in(speakers, pyarrow.array(turns.words))
    if numbers.null_count or not _takes_turns(lists, np.from_dlpack(numbers)) or not _is_said(contents):
        return None
    roles = pyarrow.array(ROLES).take(numbers)
    table = _table(lists.offsets, roles, contents)
    return Batch(table, _digests(lists.offsets, roles, contents), None)


def _lists(text: bytes, column: str, turns: Turns) -> pyarrow.ListArray | None:
    """The turns of each line, if each is an object of that column alone, and each turn one of two texts alone.

    Arrow's reader refuses other keys, keys that stand twice, and other values, but goes by objects and not by lines.
    """
    codes = np.frombuffer(text, np.uint8)
    ends = np.flatnonzero(codes == ord("\n"))
    if not text.startswith(b"{") or (codes[ends - 1] != ord("}")).any() or (codes[ends[:-1] + 1] != ord("{")).any():
        return None
    turn = pyarrow.struct([(turns.speaker, pyarrow.string()), (turns.text, pyarrow.string())])
    wanted = pyarrow.schema([(column, pyarrow.list_(turn))])
    parsing = pyarrow.json.ParseOptions(explicit_schema=wanted, unexpected_field_behavior="error")
    reading = pyarrow.json.ReadOptions(use_threads=False, block_size=len(text))
    try:
        table = pyarrow.json.read_json(pyarrow.BufferReader(text), reading, parsing)
        table.validate(full=True)
    except pyarrow.ArrowException:
        return None
    lists = table[column].combine_chunks()
    items = lists.flatten()
    is_whole = len(lists) == len(ends) and not any(one.null_count for one in (lists, items, *items.flatten()))
    return lists if is_whole else None


def _takes_turns(lists: pyarrow.ListArray, roles: Any) -> bool:
    """Whether in each list a user and an assistant take turns, once each at least, after at most one system text."""
    counts = np.from_dlpack(lists.value_lengths()).astype(np.int64)
    if counts.min() < 2:
        return False
    starts = np.from_dlpack(lists.offsets)[:-1]
    with_system = roles[starts] == SYSTEM
    places = np.arange(len(roles)) - np.repeat(starts + with_system, counts)
    expected = np.where(places < 0, SYSTEM, places % 2)
    return bool((counts - with_system).min() > 1 and (roles == expected).all())


def _is_said(contents: pyarrow.StringArray) -> bool:
    """Whether each text says something, and none holds what cannot be stored."""
    if pc.any(pc.or_(pc.utf8_is_space(contents), pc.equal(contents, ""))).as_py():
        return False
    data = contents.buffers()[2].to_pybytes()
    return not any(one in data for one in UNSTORABLE)


def _table(offsets: pyarrow.Array, roles: pyarrow.Array, contents: pyarrow.Array) -> pyarrow.Table:
    given = {"role": roles, "content": contents}
    columns = [given.get(field.name, pyarrow.nulls(len(roles), field.type)) for field in MESSAGE]
    items = pyarrow.StructArray.from_arrays(columns, fields=list(MESSAGE))
    messages = pyarrow.ListArray.from_arrays(offsets, items, type=MESSAGES)
    arrays = [messages, *(pyarrow.nulls(len(messages), field.type) for field in SCHEMA if field.name != "messages")]
    return pyarrow.Table.from_arrays(arrays, schema=SCHEMA)


def _digests(offsets: pyarrow.Array, roles: pyarrow.Array, contents: pyarrow.Array) -> list[bytes]:
    """The digest of each row's canonical text, which is put together of texts as JSON has them."""
    of_message = canonical({**dict.fromkeys(field.name for field in MESSAGE), "content": "|", "role": "|"})
    of_row = canonical({**dict.fromkeys(SCHEMA.names), "messages": ["|"]}).replace(b'"|"', b"|")
    before, between, after = of_message.decode().split("|")
    messages = pc.binary_join_element_wise(before, _escaped(contents), between, roles, after, "")
    before, after = of_row.decode().split("|")
    lists = pyarrow.ListArray.from_arrays(offsets, messages)
    rows = pc.binary_join_element_wise(before, pc.binary_join(lists, ","), after, "")
    ends = np.from_dlpack(pc.binary_length(rows)).cumsum().tolist()
    text = memoryview(rows.buffers()[2])
    return [digest(text[begin:end]) for begin, end in zip([0, *ends], ends, strict=False)]


def _escaped(contents: pyarrow.StringArray) -> pyarrow.StringArray:
    """Texts as they stand between quotes in JSON."""
    codes = np.frombuffer(contents.buffers()[2], np.uint8)
    special = {chr(code) for code in np.unique(codes[(codes < ord(" ")) | (codes == ord('"')) | (codes == ord("\\"))])}
    for one in sorted(special, key="\\".__ne__):  # a backslash first: the others are written with one
        contents = pc.replace_substring(contents, one, orjson.dumps(one)[1:-1].decode())
    return contents
