"""Labels without training: from the frozen base's reading of the training rows alone, in seconds.

Two ways. Class means: the label whose mean is nearest by angle. Random projection (RanPAC, McDonnell et al. 2023):
features h = max(0, f W) with a random normal W, and the ridge regression of the labels on them,
(Σ h hᵀ + λ I)⁻¹ Σ h yᵀ.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import numpy
from numpy.typing import NDArray

Matrix = NDArray[numpy.float32]
Labels = NDArray[numpy.int64]
Predict = Callable[[Matrix], Labels]
WIDTH = 2048
"""Random features. The paper takes 10,000 and finds most of the gain from about 2,000 on."""
RIDGES = tuple(10.0**power for power in range(-2, 6))
HELD = 5
"""Each fifth row chooses the reading and λ; then all rows are used."""


def embed(
    model: Any, rows: Sequence[Sequence[int]], *, at_once: int, seen: Callable[[], None] = lambda: None
) -> dict[str, Matrix]:
    """What the base makes of rows of tokens: the `mean` of its last hidden states, and that of the `last` token.

    `model` is any model with a head; an adapter is left out. `seen` is called at each batch.
    """
    import torch

    from engine.models.labelling import last_places, padded

    adapted = hasattr(model, "peft_config")
    plain = model.get_base_model() if adapted else model
    inner = getattr(plain, plain.base_model_prefix)
    order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    found: dict[str, list[Any]] = {"mean": [None] * len(rows), "last": [None] * len(rows)}
    was_training = model.training
    model.eval()
    for first in range(0, len(order), at_once):
        places = order[first : first + at_once]
        batch = {name: one.to(model.device) for name, one in padded([rows[place] for place in places], 0).items()}
        with torch.no_grad(), model.disable_adapter() if adapted else nullcontext():
            states = inner(**batch, use_cache=False).last_hidden_state.float()
        mask = batch["attention_mask"]
        mean = (states * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
        last = states[torch.arange(len(places), device=states.device), last_places(mask)]
        for row, place in enumerate(places):
            found["mean"][place], found["last"][place] = mean[row].cpu().numpy(), last[row].cpu().numpy()
        seen()
    model.train(was_training)
    return {name: numpy.stack(each) for name, each in found.items()}


def class_means(features: Matrix, labels: Labels, count: int) -> Predict:
    """The label whose mean has the smallest angle to a row; a label without rows is never said."""
    means = numpy.stack([features[labels == label].sum(axis=0) for label in range(count)])
    directions = _unit(means)
    missing = numpy.bincount(labels, minlength=count) == 0

    def predict(rows: Matrix) -> Labels:
        likeness = _unit(rows) @ directions.T
        likeness[:, missing] = -numpy.inf
        nearest: Labels = likeness.argmax(axis=1)
        return nearest

    return predict


class RandomProjection:
    """RanPAC's second phase, for features of about unit size in each direction: projected once, solved for any λ."""

    def __init__(self, features: Matrix, labels: Labels, count: int, *, seed: int = 0) -> None:
        size = features.shape[1]
        self._drawn = numpy.random.default_rng(seed).standard_normal((size, WIDTH)) / numpy.sqrt(size)
        self._hidden = self._project(features)
        self._target = numpy.eye(count)[labels]
        self._few = len(features) <= WIDTH  # then the same is solved with one equation for each row
        self._gram = self._hidden @ self._hidden.T if self._few else self._hidden.T @ self._hidden

    def solved(self, ridge: float) -> Predict:
        """The labels by the ridge regression with this λ."""
        wanted = self._target if self._few else self._hidden.T @ self._target
        found = numpy.linalg.solve(self._gram + ridge * numpy.eye(len(self._gram)), wanted)
        weights = self._hidden.T @ found if self._few else found
        return lambda rows: (self._project(rows) @ weights).argmax(axis=1)

    def _project(self, rows: Matrix) -> NDArray[numpy.float64]:
        projected: NDArray[numpy.float64] = numpy.maximum(rows @ self._drawn, 0.0)
        return projected


class Prototypes:
    """Both ways, each on the reading that suits it best: chosen on a fifth of the training rows."""

    def __init__(self, features: dict[str, Matrix], labels: Labels, count: int) -> None:
        self._scales = {name: _Scale(each) for name, each in features.items()}
        self._features = {name: self._scales[name](each) for name, each in features.items()}
        self._labels, self._count = labels, count
        kept, held = numpy.arange(len(labels)) % HELD != 0, numpy.arange(len(labels)) % HELD == 0
        means = {name: self._means(name, kept) for name in features}
        projected = {
            (name, ridge): say for name in features for ridge, say in self._projections(name, kept, RIDGES).items()
        }
        self.means_of = max(means, key=lambda name: self._right(means[name], name, held))
        self.projection_of = max(projected, key=lambda one: self._right(projected[one], one[0], held))

    def predict(self, features: dict[str, Matrix]) -> dict[str, Labels]:
        """The labels that each way says of rows, after it was made from all training rows."""
        scaled = {name: self._scales[name](each) for name, each in features.items()}
        every = numpy.full(len(self._labels), True)
        name, ridge = self.projection_of
        return {
            "class_means": self._means(self.means_of, every)(scaled[self.means_of]),
            "random_projection": self._projections(name, every, (ridge,))[ridge](scaled[name]),
        }

    def _means(self, name: str, rows: NDArray[numpy.bool_]) -> Predict:
        return class_means(self._features[name][rows], self._labels[rows], self._count)

    def _projections(self, name: str, rows: NDArray[numpy.bool_], ridges: Sequence[float]) -> dict[float, Predict]:
        made = RandomProjection(self._features[name][rows], self._labels[rows], self._count)
        return {ridge: made.solved(ridge) for ridge in ridges}

    def _right(self, say: Predict, name: str, rows: NDArray[numpy.bool_]) -> float:
        return float((say(self._features[name][rows]) == self._labels[rows]).mean())


class _Scale:
    """Rows around the training rows' mean, each of length √d: a base's states all point one way, some far longer."""

    def __init__(self, features: Matrix) -> None:
        self._mean = features.mean(axis=0)

    def __call__(self, features: Matrix) -> Matrix:
        scaled: Matrix = _unit(features - self._mean) * numpy.float32(numpy.sqrt(features.shape[1]))
        return scaled


def _unit(rows: Matrix) -> Matrix:
    lengths = numpy.linalg.norm(rows, axis=1, keepdims=True)
    unit: Matrix = rows / numpy.maximum(lengths, numpy.float32(1e-12))
    return unit
