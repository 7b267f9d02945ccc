"""Weights read and written tensor by tensor: no more than a few of them are ever in memory. Child processes only."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from engine.models.weights import INDEX, SINGLE, tensors, weight_files

SHARD_BYTES = 4 * 10**9
ADAPTER_WEIGHTS = "adapter_model.safetensors"
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""What safetensors calls a number format."""
Shapes = Mapping[str, tuple[int, ...]]


class Weights(Protocol):
    """Something to read tensors from."""

    @property
    def shapes(self) -> Shapes: ...

    def read(self, name: str) -> Any:
        """The tensor in float32."""
        ...


class Stored:
    """The tensors of safetensors files; to be closed."""

    def __init__(self, folder: Path, files: Sequence[str] | None = None) -> None:
        self._stack = ExitStack()
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.formats: set[str] = set()
        """The number formats that it is stored in, as safetensors calls them."""
        for name in weight_files(folder) if files is None else files:
            self._open(folder / name)

    def _open(self, path: Path) -> None:
        from safetensors import safe_open

        opened = self._stack.enter_context(safe_open(str(path), framework="pt"))
        for one in tensors(path):
            self._files[one.name], self.shapes[one.name] = opened, one.shape
            self.formats.add(one.dtype)

    def read(self, name: str) -> Any:
        return self._files[name].get_tensor(name).float()

    def close(self) -> None:
        """Let go of the files."""
        self._stack.close()


class Lora:
    """The matrices of a stored LoRA adapter by the weight that they change.

    Only where a product of two matrices is all that it changes (`is_plain`).
    """

    def __init__(self, folder: Path) -> None:
        self.config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        self._stored = Stored(folder, [ADAPTER_WEIGHTS])
        ends = (".lora_A.weight", ".lora_B.weight")
        self._others = [name for name in self._stored.shapes if not name.endswith(ends)]
        stems = sorted({name[: -len(ends[0])] for name in self._stored.shapes if name.endswith(ends)})
        self._stems = {f"{stem.removeprefix('base_model.model.')}.weight": stem for stem in stems}

    @property
    def changed(self) -> list[str]:
        """The names of the weights that it changes."""
        return list(self._stems)

    @property
    def is_plain(self) -> bool:
        """Whether its whole effect is W + B·A times one number: no other kind, layer or trained part beside it."""
        told = self.config
        other = ("use_dora", "fan_in_fan_out", "modules_to_save", "rank_pattern", "alpha_pattern", "layer_replication")
        return (
            told.get("peft_type") == "LORA"
            and not self._others
            and not any(told.get(name) for name in (*other, "trainable_token_indices", "target_parameters"))
            and told.get("bias", "none") == "none"
            and told.get("init_lora_weights", True) is True  # others may change the base itself when they are loaded
        )

    @property
    def rank(self) -> int:
        return int(self.config["r"])

    @property
    def scale(self) -> float:
        """What B·A is multiplied by."""
        rank = math.sqrt(self.rank) if self.config.get("use_rslora") else self.rank
        return float(self.config["lora_alpha"]) / rank

    def factors(self, name: str) -> tuple[Any, Any]:
        """A, and B times the scale, of a weight that it changes."""
        stem = self._stems[name]
        first, second = (self._stored.read(f"{stem}.lora_{side}.weight") for side in "AB")
        return first, second * self.scale

    def key(self, name: str, side: str) -> str:
        """What a matrix is called in the file."""
        return f"{self._stems[name]}.lora_{side}.weight"

    def close(self) -> None:
        """Let go of the file."""
        self._stored.close()


class Folded:
    """A base with a plain LoRA adapter folded in, one weight at a time."""

    def __init__(self, base: Stored, lora: Lora) -> None:
        self._base, self._lora = base, lora
        self._changed = set(lora.changed)
        self.shapes: Shapes = base.shapes

    def read(self, name: str) -> Any:
        weight = self._base.read(name)
        if name not in self._changed:
            return weight
        first, second = self._lora.factors(name)
        return weight + second @ first


def plan(shapes: Shapes, dtype: str) -> list[list[str]]:
    """The names of the tensors by the file that they go into."""
    files: list[list[str]] = [[]]
    held = 0
    for name, shape in shapes.items():
        size = _bytes(shape, dtype)
        if files[-1] and held + size > SHARD_BYTES:
            files.append([])
            held = 0
        files[-1].append(name)
        held += size
    return files


def num_bytes(shapes: Shapes, dtype: str) -> int:
    """What these tensors take on the disk in a number format."""
    return sum(_bytes(shape, dtype) for shape in shapes.values())


def write(folder: Path, shapes: Shapes, dtype: str, read: Callable[[str], Any]) -> None:
    """Write a model's weights in a number format; `read` gives a tensor when its turn has come."""
    files = plan(shapes, dtype)
    names = [SINGLE] if len(files) == 1 else [_shard(place, len(files)) for place in range(len(files))]
    for name, members in zip(names, files, strict=True):
        write_file(folder / name, {one: shapes[one] for one in members}, dtype, read)
    if len(files) > 1:
        table = {one: name for name, members in zip(names, files, strict=True) for one in members}
        index = {"metadata": {"total_size": num_bytes(shapes, dtype)}, "weight_map": table}
        (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True), encoding="utf-8")


def write_file(path: Path, shapes: Shapes, dtype: str, read: Callable[[str], Any]) -> None:
    """Write one safetensors file: its header is known before the first tensor is read."""
    from engine.models.loading import dtype_of

    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    reached = 0
    for name, shape in shapes.items():
        end = reached + _bytes(shape, dtype)
        header[name] = {"dtype": NAMES[dtype], "shape": list(shape), "data_offsets": [reached, end]}
        reached = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in shapes:
            for block in _raw(read(name).to(dtype_of(dtype))):
                file.write(block)


def _raw(tensor: Any) -> Iterator[Any]:
    """The bytes of a tensor in the file's order; numpy has no bfloat16."""
    import torch

    yield memoryview(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def _bytes(shape: Sequence[int], dtype: str) -> int:
    return math.prod(shape) * (4 if dtype == "float32" else 2)


def _shard(place: int, count: int) -> str:
    return f"model-{place + 1:05d}-of-{count:05d}.safetensors"
