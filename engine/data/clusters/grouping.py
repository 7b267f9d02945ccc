"""Clusters of texts: TF-IDF of their terms, the main directions of it, and k-means on the sphere.

TF-IDF and latent semantic analysis: C. Manning, P. Raghavan, H. Schütze, Introduction to Information Retrieval, 2008,
chapters 6 and 18. Directions: N. Halko, P. Martinsson, J. Tropp, Finding structure with randomness, 2011.
First centres: D. Arthur and S. Vassilvitskii, k-means++, 2007.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy
from numpy.random import Generator
from numpy.typing import NDArray

from engine.data.clusters.terms import NUMBER, terms

MOST_TERMS = 2000
LEAST_TEXTS, LEAST_SHARE = 2, 0.005
"""A term that fewer texts have is about a subject, not about a task."""
DIRECTIONS, POWERS = 50, 4
TRIES, ROUNDS = 8, 100
TOLD_TERMS, TOLD_SHARE = 6, 0.3
ALIKE = 1e-6
Matrix = NDArray[numpy.float32]
Labels = NDArray[numpy.int16]
NONE = -1
"""The label of a text that has none of the terms."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """What tells the cluster of any text."""

    places: dict[str, int]
    """Of each term."""
    weights: Matrix
    directions: Matrix
    centres: Matrix

    def label(self, texts: Sequence[str]) -> Labels:
        """The nearest cluster of each text."""
        return nearest(_project(terms_in(texts, self.places), self.weights, self.directions), self.centres)


def fit(texts: Sequence[str], num_clusters: int, seed: int) -> tuple[Grouping, Labels, list[list[str]]]:
    """At most so many clusters, the largest first; the cluster of each text, and the terms that tell each cluster.

    There are fewer clusters where fewer texts differ, and none where the texts share no term.
    """
    draw = numpy.random.default_rng(seed)
    places = vocabulary(texts)
    has = terms_in(texts, places)
    weights = numpy.log((1 + len(texts)) / (1 + has.sum(0))).astype(numpy.float32)
    directions = _directions(_unit(has * weights), draw)
    points = _project(has, weights, directions)
    tried = [_k_means(points[points.any(1)], num_clusters, draw) for _ in range(TRIES)]
    centres = max(tried, key=lambda one: one[1])[0]
    labels = nearest(points, centres)
    sizes = numpy.bincount(labels[labels != NONE], minlength=len(centres))
    order = [place for place in numpy.argsort(-sizes, kind="stable") if sizes[place]]
    grouping = Grouping(places, weights, directions, centres[order])
    labels = nearest(points, grouping.centres)
    return grouping, labels, _telling(has, labels, len(order), list(places))


def vocabulary(texts: Sequence[str]) -> dict[str, int]:
    """The terms that most texts have, each with its place."""
    often = Counter(term for text in texts for term in set(terms(text)))
    least = max(LEAST_TEXTS, LEAST_SHARE * len(texts))
    known = sorted((term for term, count in often.items() if count >= least), key=lambda one: (-often[one], one))
    return {term: place for place, term in enumerate(known[:MOST_TERMS])}


def terms_in(texts: Sequence[str], places: dict[str, int]) -> Matrix:
    """1 where a text has a term, else 0."""
    has = numpy.zeros((len(texts), len(places)), numpy.float32)
    for row, text in enumerate(texts):
        has[row, [place for term in terms(text) if (place := places.get(term)) is not None]] = 1
    return has


def nearest(points: Matrix, centres: Matrix) -> Labels:
    """The nearest centre of each point."""
    if not len(centres):
        return numpy.full(len(points), NONE, numpy.int16)
    labels: Labels = (points @ centres.T).argmax(1).astype(numpy.int16)
    labels[~points.any(1)] = NONE
    return labels


def _project(has: Matrix, weights: Matrix, directions: Matrix) -> Matrix:
    return _unit((has * weights) @ directions)


def _unit(rows: NDArray[Any]) -> Matrix:
    """Rows of length 1; those of no length stay."""
    lengths = numpy.linalg.norm(rows, axis=1, keepdims=True)
    short = lengths < ALIKE
    unit: Matrix = numpy.where(short, 0, rows / numpy.where(short, 1, lengths)).astype(numpy.float32)
    return unit


def _directions(rows: Matrix, draw: Generator) -> Matrix:
    """An orthonormal basis of what the rows differ in most."""
    basis = draw.standard_normal((rows.shape[1], min(DIRECTIONS, *rows.shape))).astype(numpy.float32)
    for _ in range(POWERS if basis.size else 0):
        basis = numpy.linalg.qr(rows.T @ (rows @ basis))[0]
    return basis


def _k_means(points: Matrix, num_clusters: int, draw: Generator) -> tuple[Matrix, float]:
    """Centres, and how near the points are to theirs all in all."""
    centres = _first_centres(points, num_clusters, draw)
    if not len(centres):
        return centres, 0.0
    labels = numpy.full(len(points), NONE)
    for _ in range(ROUNDS):
        likeness = points @ centres.T
        before, labels = labels, likeness.argmax(1)
        if (labels == before).all():
            break
        belongs = (labels[:, None] == numpy.arange(len(centres))).astype(numpy.float32)
        sums = _unit(belongs.T @ points)
        centres = numpy.where(sums.any(1, keepdims=True), sums, centres)
    return centres, float(likeness.max(1).sum())


def _first_centres(points: Matrix, num_clusters: int, draw: Generator) -> Matrix:
    """Points far from each other: each is drawn by its distance from those before."""
    if not len(points):
        return points
    chosen = [int(draw.integers(len(points)))]
    far = numpy.full(len(points), numpy.inf)
    while len(chosen) < num_clusters:
        far = numpy.minimum(far, 1 - points @ points[chosen[-1]]).astype(numpy.float64)
        far[far < ALIKE] = 0
        if not far.any():
            break
        chosen.append(int(draw.choice(len(points), p=far / far.sum())))
    return points[chosen]


def _telling(has: Matrix, labels: Labels, num_clusters: int, names: list[str]) -> list[list[str]]:
    """Of each cluster the terms that far more of its texts have than of the others, numbers left out."""
    found: list[list[str]] = []
    for label in range(num_clusters):
        inside = labels == label
        others = has[~inside].mean(0) if not inside.all() else numpy.zeros(has.shape[1])
        ahead = has[inside].mean(0) - others
        ahead[[place for place, name in enumerate(names) if name == NUMBER]] = 0
        order = numpy.argsort(-ahead, kind="stable")[:TOLD_TERMS]
        found.append([names[place] for place in order if 0 < ahead[place] >= TOLD_SHARE * ahead[order[0]]])
    return found
