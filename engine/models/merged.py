"""One model of several: whole weights or an adapter, tensor by tensor. Child processes only."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.merging.protocol import Beside, Merge
from engine.models import tensors
from engine.models.tensors import ADAPTER_WEIGHTS, Lora, Weights
from engine.specs.base import EntrySpec

ADAPTER_CONFIG = "adapter_config.json"
Seen = Callable[[int, int], None]
"""Called with how many tensors are done, and how many there are."""


@dataclass(frozen=True, slots=True)
class How:
    """A way of merging with its settings; `shares` are what the sources count."""

    method: Merge
    spec: EntrySpec
    shares: Sequence[float]
    seed: int

    @classmethod
    def of(cls, method: Merge, spec: EntrySpec, weights: Sequence[float], seed: int) -> How:
        return cls(method, spec, method.shares(weights, spec), seed)

    def merge(self, name: str, some: Sequence[Any], importance: Sequence[Any] = ()) -> Any:
        """One tensor of them; what is drawn at random for it depends on its name alone."""
        digest = hashlib.sha256(f"{self.seed}:{name}".encode()).digest()
        beside = Beside(int.from_bytes(digest[:6], "big"), importance)
        return self.method.merge(some, self.shares, self.spec, beside)


@dataclass(slots=True)
class Lost:
    """How much of a merged change an adapter of the wanted width can hold, in squares of values."""

    kept: float = 0.0
    whole: float = 0.0

    @property
    def share(self) -> float:
        return self.kept / self.whole if self.whole else 1.0


@dataclass(frozen=True, slots=True)
class Whole:
    """What whole weights are made of. `base` is there where changes are merged, `importance` where it is asked for."""

    sources: Sequence[Weights]
    shapes: tensors.Shapes
    base: Weights | None = None
    importance: Sequence[Weights] = field(default_factory=tuple)

    def read(self, how: How, name: str) -> Any:
        """The merged tensor."""
        some = [one.read(name) for one in self.sources]
        if self.base is None:
            return how.merge(name, some, [one.read(name) for one in self.importance])
        base = self.base.read(name)
        return base + how.merge(name, [one - base for one in some])


def write_weights(folder: Path, whole: Whole, how: How, *, dtype: str, seen: Seen) -> None:
    """Write the merged weights into a folder; no more than one tensor of each source is in memory."""
    total, done = len(whole.shapes), 0

    def read(name: str) -> Any:
        nonlocal done
        seen(done, total)
        done += 1
        return whole.read(how, name)

    tensors.write(folder, whole.shapes, dtype, read)


def write_adapter(folder: Path, loras: Sequence[Lora], how: How, *, rank: int, seen: Seen) -> Lost:
    """Write the merged adapter, `rank` wide, into a folder; returns what of the change it holds.

    A mean of adapters is one as wide as all of them together. Other ways of merging, and narrower ones, are brought to
    the width by the nearest matrix of that rank (Eckart and Young 1936).
    """
    first = loras[0]
    names, lost = sorted(first.changed), Lost()
    merged: dict[str, Any] = {}
    for done, name in enumerate(names):
        seen(done, len(names))
        a, b = _merged_factors(loras, how, name, rank, lost)
        merged[first.key(name, "A")], merged[first.key(name, "B")] = a, b
    shapes = {name: tuple(value.shape) for name, value in merged.items()}
    tensors.write_file(folder / ADAPTER_WEIGHTS, shapes, "float32", merged.__getitem__)
    told = {**first.config, **_plain_config(rank)}
    (folder / ADAPTER_CONFIG).write_text(json.dumps(told, indent=2, sort_keys=True), encoding="utf-8")
    return lost


def _plain_config(rank: int) -> Mapping[str, Any]:
    """The scale is folded into the matrices."""
    return {"r": rank, "lora_alpha": rank, "use_rslora": False, "inference_mode": True}


def _merged_factors(loras: Sequence[Lora], how: How, name: str, rank: int, lost: Lost) -> tuple[Any, Any]:
    import torch

    factors = [one.factors(name) for one in loras]
    if not how.method.keeps_rank:
        return _nearest(how.merge(name, [b @ a for a, b in factors]), rank, lost)
    a = torch.cat([one for one, _ in factors])
    b = torch.cat([one * share for (_, one), share in zip(factors, how.shares, strict=True)], dim=1)
    if len(a) <= rank:
        size = float(((b.T @ b) * (a @ a.T)).sum())
        lost.kept, lost.whole = lost.kept + size, lost.whole + size
        return _padded(a, b, rank)
    return _nearest(b @ a, rank, lost)


def _nearest(change: Any, rank: int, lost: Lost) -> tuple[Any, Any]:
    import torch

    left, values, right = torch.linalg.svd(change, full_matrices=False)
    lost.kept += float((values[:rank] ** 2).sum())
    lost.whole += float((values**2).sum())
    root = values[:rank].sqrt()
    return _padded(root[:, None] * right[:rank], left[:, :rank] * root, rank)


def _padded(a: Any, b: Any, rank: int) -> tuple[Any, Any]:
    """Zeros up to the width: all matrices of an adapter are equally wide."""
    import torch

    more = rank - len(a)
    return torch.nn.functional.pad(a, (0, 0, 0, more)), torch.nn.functional.pad(b, (0, more))
