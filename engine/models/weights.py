"""What safetensors files say of themselves, read without trusting them: caps come before allocation. Torch-free."""

from __future__ import annotations

import json
import os
import stat
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from engine.specs.problem import Problem, ProblemError, problem

MAX_HEADER_BYTES = 32 * 2**20
MAX_TENSORS = 200_000
MAX_JSON_BYTES = 64 * 2**20
ITEM_BITS = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2"), 8),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 16),
    **dict.fromkeys(("U32", "I32", "F32"), 32),
    **dict.fromkeys(("U64", "I64", "F64"), 64),
}
FLOATS = ("F16", "BF16", "F32", "F64")
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor as its file's header declares it."""

    name: str
    dtype: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        return prod(self.shape)


def open_regular(path: Path) -> int:
    """Open a file for reading if it is a plain one: no link is followed, no pipe is waited for.

    Raises:
        ProblemError: `model_file_not_plain`, or `model_file_missing`.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ProblemError([problem("model_file_missing", file=path.name)]) from error
    except OSError as error:
        raise ProblemError([problem("model_file_not_plain", file=path.name)]) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise ProblemError([problem("model_file_not_plain", file=path.name)])
    return handle


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object of bounded size.

    Raises:
        ProblemError: it is not there, not plain, too large or no JSON object.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if len(data) > MAX_JSON_BYTES:
        raise ProblemError([problem("model_file_too_large", file=path.name, limit_mb=MAX_JSON_BYTES >> 20)])
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ProblemError([problem("model_json_broken", file=path.name, detail=str(error)[:120])]) from error
    if not isinstance(found, dict):
        raise ProblemError([problem("model_json_broken", file=path.name, detail="not an object")])
    return found


def weight_files(folder: Path) -> list[str]:
    """Names of the files that hold the weights: the one of a small model, or those of the index.

    Raises:
        ProblemError: `model_no_safetensors`, or an index that names what is not there.
    """
    if (folder / SINGLE).exists() or (folder / SINGLE).is_symlink():
        return [SINGLE]
    if not (folder / INDEX).exists():
        raise ProblemError([problem("model_no_safetensors", files=_some_names(folder))])
    table = read_json(folder / INDEX).get("weight_map")
    if not isinstance(table, dict) or not table:
        raise ProblemError([problem("model_json_broken", file=INDEX, detail="weight_map")])
    names = sorted({str(name) for name in table.values()})
    wrong = [name for name in names if not _is_plain_name(name) or not (folder / name).exists()]
    if wrong:
        raise ProblemError([problem("model_file_missing", file=name[:80]) for name in wrong[:5]])
    return names


def tensors(path: Path) -> list[Tensor]:
    """The tensors that a safetensors file declares, checked against the size of the file.

    Raises:
        ProblemError: `model_weights_broken`, with what is wrong.
    """
    with os.fdopen(open_regular(path), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
            raise _broken(path, f"header of {length} bytes")
        header = _header(path, file.read(length))
    if len(header) > MAX_TENSORS:
        raise _broken(path, f"{len(header)} tensors")
    spans = sorted(_span(path, name, entry) for name, entry in header.items())
    reached = 0
    for begin, end, _ in spans:
        if begin != reached:
            raise _broken(path, "tensors overlap or leave gaps")
        reached = end
    if reached != size - 8 - length:
        raise _broken(path, "file is longer or shorter than its tensors")
    return [Tensor(name, header[name]["dtype"], tuple(header[name]["shape"])) for _, _, name in spans]


def _header(path: Path, data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _broken(path, "header is no JSON") from error
    if not isinstance(header, dict):
        raise _broken(path, "header is no JSON object")
    header.pop("__metadata__", None)
    if not header:
        raise _broken(path, "no tensors")
    return header


def _span(path: Path, name: str, entry: Any) -> tuple[int, int, str]:
    if (
        not isinstance(entry, Mapping)
        or not _whole_numbers(entry.get("shape"))
        or not _whole_numbers(entry.get("data_offsets"))
    ):
        raise _broken(path, f"entry of {name[:60]}")
    bits = ITEM_BITS.get(str(entry.get("dtype")))
    offsets = entry["data_offsets"]
    if bits is None or len(offsets) != 2 or len(entry["shape"]) > 8:
        raise _broken(path, f"entry of {name[:60]}")
    if offsets[1] - offsets[0] != prod(entry["shape"]) * bits // 8:
        raise _broken(path, f"size of {name[:60]}")
    return offsets[0], offsets[1], name


def _whole_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(type(item) is int and 0 <= item < 2**48 for item in value)


def _broken(path: Path, detail: str) -> ProblemError:
    return ProblemError([Problem("model_weights_broken", values={"file": path.name, "detail": detail})])


def _is_plain_name(name: str) -> bool:
    return name == Path(name).name and name.endswith(".safetensors") and not name.startswith(".")


def _some_names(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())[:8]
    return ", ".join(names) or "-"
