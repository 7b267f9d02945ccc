"""The sanitised copy of a model folder: only known files, no key that could start foreign code. Torch-free."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from engine.files import publish
from engine.models.inspect import inspect
from engine.models.template import FILE as TEMPLATE
from engine.models.weights import INDEX, open_regular, read_json, weight_files
from engine.specs.problem import ProblemError, problem

CONFIGS = ("config.json", "generation_config.json", "tokenizer_config.json")
PLAIN = (
    "tokenizer.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "chat_template.json",
    TEMPLATE,
    "README.md",
    "LICENSE",
    "LICENSE.txt",
    "LICENSE.md",
    "NOTICE",
)
DANGEROUS = re.compile(
    r"_.*|custom_.*|auto_map|trust_remote_code|.*kernels?|.*attn_implementation.*|experts_implementation|name_or_path"
)
BLOCK = 4 * 2**20
KEPT = re.compile(r"[0-9a-f]{32}")
"""The name of a copy: the beginning of its digest."""


def keep_model(
    source: Path,
    staged: Path,
    *,
    known: Collection[str] | None = None,
    keep_files: bool = False,
    copied: Callable[[int], None] = lambda _count: None,
) -> Path:
    """Put the copy of a model under its digest beside `staged`, the new folder in which it is made; return it.

    Raises:
        ProblemError, OSError: as of `copy_model`.
    """
    staged.mkdir(mode=0o700)
    digest = copy_model(source, staged, known=known, keep_files=keep_files, copied=copied)
    inspect(staged)  # what was copied is what was checked, also if the source changed meanwhile
    final = staged.with_name(_short(digest))
    if not final.exists():
        publish(staged, final)
    return final


def copy_model(
    source: Path,
    into: Path,
    *,
    known: Collection[str] | None = None,
    keep_files: bool = False,
    copied: Callable[[int], None] = lambda _count: None,
) -> str:
    """Copy the allowed files of `source` into the empty folder `into`; return the SHA-256 over names and contents.

    `known` are the keys that the model type's configuration has; others are left out. With `keep_files` the source is
    ours: on the same disk its files are linked, not written twice. `copied` is told bytes as they are written.

    Raises:
        ProblemError: a file is a link, a pipe or not there.
        OSError: the disk is full.
    """
    whole = hashlib.sha256()
    for name in _names(source):
        path = source / name
        if name in CONFIGS:
            told = sanitise(read_json(path), known=known if name == "config.json" else None)
            data = json.dumps(told, ensure_ascii=False, indent=2, sort_keys=True).encode()
            (into / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
        else:
            digest = _copy(path, into / name, link=keep_files, copied=copied)
        whole.update(f"{name}\0{digest}\n".encode())
    return whole.hexdigest()


def must_be_unchanged(folder: Path) -> None:
    """Read a copy anew: what was trained on it is true of these very bytes alone. Other folders have no digest.

    Raises:
        ProblemError: `model_changed`: a file is not the one that was copied.
    """
    if not KEPT.fullmatch(folder.name):
        return
    whole = hashlib.sha256()
    for name in _names(folder):
        with (folder / name).open("rb") as file:
            whole.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
    if _short(whole.hexdigest()) != folder.name:
        raise ProblemError([problem("model_changed", folder=folder.name)])


def _short(digest: str) -> str:
    return digest[:32]


def _names(folder: Path) -> list[str]:
    named = sorted({*CONFIGS, *PLAIN, *weight_files(folder), INDEX})
    return [name for name in named if (folder / name).exists() or (folder / name).is_symlink()]


def sanitise(config: dict[str, Any], *, known: Collection[str] | None = None) -> dict[str, Any]:
    """The configuration without keys that could bring in code or kernels, and without unknown ones."""
    kept = {key: value for key, value in config.items() if known is None or key in known}
    return {key: _clean(value) for key, value in kept.items() if not DANGEROUS.fullmatch(key)}


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in value.items() if not DANGEROUS.fullmatch(str(key))}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return value


def _copy(path: Path, to: Path, *, link: bool, copied: Callable[[int], None]) -> str:
    digest = hashlib.sha256()
    with os.fdopen(open_regular(path), "rb") as read:
        linked = link and _link(path, to)
        with (Path(os.devnull) if linked else to).open("wb") as write:
            while block := read.read(BLOCK):
                digest.update(block)
                write.write(block)
                copied(len(block))
    return digest.hexdigest()


def _link(path: Path, to: Path) -> bool:
    try:
        os.link(path, to, follow_symlinks=False)
    except OSError:  # another disk, another owner, or a file system without links
        return False
    return True
