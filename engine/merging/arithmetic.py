"""What several ways of merging do: count weights, thin changes out, let the majority of signs decide."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def normalised(weights: Sequence[float]) -> list[float]:
    """The weights as shares of their sum."""
    total = math.fsum(weights)
    return [one / total for one in weights]


def weighted_sum(tensors: Sequence[Any], shares: Sequence[float]) -> Any:
    """The sum of the tensors, each times its share."""
    total = tensors[0] * shares[0]
    for tensor, share in zip(tensors[1:], shares[1:], strict=True):
        total += tensor * share
    return total


def largest(tensor: Any, density: float) -> Any:
    """The values of this share that are furthest from zero; all others are zero. At least one stays."""
    import torch

    kept = math.ceil(density * tensor.numel() - 1e-9)
    flat = tensor.reshape(-1)
    places = torch.topk(flat.abs(), kept, sorted=False).indices
    thinned = torch.zeros_like(flat)
    thinned[places] = flat[places]
    return thinned.reshape(tensor.shape)


def drawn(tensor: Any, density: float, seed: int) -> Any:
    """Values kept with this probability and enlarged by its inverse, so that their expectation stays."""
    import torch

    generator = torch.Generator(device="cpu").manual_seed(seed)
    kept = torch.rand(tensor.shape, generator=generator) < density
    return tensor * kept / density


def by_majority(tensors: Sequence[Any], shares: Sequence[float]) -> Any:
    """The weighted mean of the values that have the sign of the greater mass; zeros neither vote nor count.

    TIES merging, steps 2 and 3 (Yadav et al. 2023, arXiv 2306.01708), with weights.
    """
    import torch

    elected = torch.sign(weighted_sum(tensors, shares))
    total, mass = torch.zeros_like(tensors[0]), torch.zeros_like(tensors[0])
    for tensor, share in zip(tensors, shares, strict=True):
        agrees = (torch.sign(tensor) == elected) & (tensor != 0)
        total += torch.where(agrees, tensor * share, 0.0)
        mass += agrees * share
    return torch.where(mass > 0, total / mass, 0.0)
