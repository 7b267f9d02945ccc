"""Weights in groups of one learning rate each: nearer to the output faster, and the B of LoRA faster than its A."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

MATRIX = "matrix"
"""The key of a group of weights that says whether they are matrices of the layers."""
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
EMBEDDING = re.compile(r"(?:^|\.)(?:embed_tokens|wte|wpe|embed_in|word_embeddings)\.")


@dataclass(frozen=True, slots=True)
class Rates:
    """How the weights' learning rates differ."""

    rate: float
    weight_decay: float
    layer_decay: float = 1.0
    """Of each layer, relative to the one above it; the last layer and what follows it have the whole rate."""
    lora_plus: float = 1.0
    """Of LoRA's B relative to its A (Hayou et al. 2024)."""
    by_matrix: bool = False
    """Whether the matrices of the layers stand in groups of their own, which say so."""


def groups(model: Any, decayed: Collection[str], rates: Rates) -> list[dict[str, Any]]:
    """The trained weights for an optimiser; `decayed` are the names of those that weight decay pulls at.

    The first group has the whole rate, so that the curve of the learning rate shows it.
    """
    made: dict[tuple[float, bool, bool], list[Any]] = {(1.0, False, True): [], (1.0, False, False): []}
    for name, weight, factor in _factors(model, rates):
        is_matrix = rates.by_matrix and is_layer_matrix(name, weight)
        made.setdefault((factor, is_matrix, name in decayed), []).append(weight)
    return [
        {
            "params": weights,
            "lr": rates.rate * factor,
            "weight_decay": rates.weight_decay if decays else 0.0,
            **({MATRIX: is_matrix} if rates.by_matrix else {}),
        }
        for (factor, is_matrix, decays), weights in made.items()
    ]


def is_layer_matrix(name: str, weight: Any) -> bool:
    """Whether a weight is a matrix of one of the layers: no embedding, no output layer, no norm."""
    return weight.ndim == 2 and LAYER.search(name) is not None


def _factors(model: Any, rates: Rates) -> Iterator[tuple[str, Any, float]]:
    """Each trained weight with its name and its rate as a multiple of the whole one."""
    named = list(model.named_parameters())
    count = max((int(found[1]) + 1 for name, _ in named if (found := LAYER.search(name))), default=0)
    for name, weight in named:
        if weight.requires_grad:
            faster = rates.lora_plus if "lora_B" in name or "lora_embedding_B" in name else 1.0
            yield name, weight, faster * rates.layer_decay ** _below_the_last(name, count)


def _below_the_last(name: str, count: int) -> int:
    """How many layers lie between a weight and the last layer; embeddings lie below the first."""
    if found := LAYER.search(name):
        return count - 1 - int(found[1])
    return count if EMBEDDING.search(name) else 0
