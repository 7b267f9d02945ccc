"""Figures of each row of a dataset that are computed once: kept in files named by what they depend on."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

VERSION = 2
"""Grows when the same rows and the same model would give other figures than before."""
KEPT_FILES = 24

Figures = dict[str, Any]
"""A float32 numpy array for each column."""


def kept(folder: Path, key: str, columns: Sequence[str], num_rows: int, compute: Callable[[], Figures]) -> Figures:
    """The figures of this key; computed, and written, where they are not there or damaged."""
    path = folder / f"{key}.safetensors"
    found = _read(path, columns, num_rows)
    if found is None:
        found = compute()
        _write(path, found)
    with contextlib.suppress(OSError):
        os.utime(path)
    return found


def key_of(dataset: Any, columns: Sequence[str], depends_on: Mapping[str, Any]) -> str:
    """A name for the figures of these rows, by their tokens and what else decides the figures."""
    told = {"version": VERSION, "columns": list(columns), **depends_on}
    made = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    table = dataset.with_format("arrow")[:]
    for name in sorted(one for one in table.column_names if one.endswith("_ids")):
        lists = table[name].combine_chunks()
        made.update(name.encode())
        made.update(lists.value_lengths().to_numpy(zero_copy_only=False).tobytes())
        made.update(lists.flatten().to_numpy(zero_copy_only=False).tobytes())
    return made.hexdigest()[:32]


def weights_hash(model: Any) -> str:
    """The hash of all the weights of a model as they lie in memory."""
    import torch

    made = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        made.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        made.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return made.hexdigest()


def _read(path: Path, columns: Sequence[str], num_rows: int) -> Figures | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), framework="numpy") as stored:
            found = {name: stored.get_tensor(name) for name in columns}
            told = (stored.metadata() or {}).get("sha256")
    except (OSError, SafetensorError):
        return None
    whole = told == _sha256(found) and all(len(values) == num_rows for values in found.values())
    return found if whole else None


def _write(path: Path, found: Figures) -> None:
    from safetensors.numpy import save_file

    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".making-", dir=path.parent) as making:
        half = Path(making) / path.name
        save_file(found, str(half), metadata={"sha256": _sha256(found)})
        half.rename(path)
    made = sorted(path.parent.glob("*.safetensors"), key=lambda one: one.stat().st_mtime, reverse=True)
    for old in made[KEPT_FILES:]:
        old.unlink(missing_ok=True)


def _sha256(found: Figures) -> str:
    made = hashlib.sha256()
    for name, values in sorted(found.items()):
        made.update(name.encode())
        made.update(values.tobytes())
    return made.hexdigest()
