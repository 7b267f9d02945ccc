"""Which rows train, which measure the loss, and which are held out: decided by content, so that it stays."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from engine.data.rows import TEST, Row, fingerprint


class Split(NamedTuple):
    """Row numbers, each in ascending order."""

    train: list[int]
    eval: list[int]
    test: list[int]


def split(rows: Iterable[Row], eval_fraction: float, seed: int) -> Split:
    """Put the share `eval_fraction` of the rows that are not held out into evaluation.

    The rows with the smallest hashes are taken: equal rows stay together, and a row hardly ever changes sides when
    others are added. Training keeps at least one row.
    """
    test: list[int] = []
    groups: dict[bytes, list[int]] = {}
    for index, row in enumerate(rows):
        if row["split"] == TEST:
            test.append(index)
        else:
            groups.setdefault(fingerprint(row), []).append(index)
    return _divide(groups, eval_fraction, seed, test)


def _divide(groups: dict[bytes, list[int]], eval_fraction: float, seed: int, test: list[int]) -> Split:
    num_rows = sum(map(len, groups.values()))
    wanted = max(1, round(num_rows * eval_fraction)) if eval_fraction > 0 else 0
    ordered = sorted(groups, key=lambda mark: hashlib.sha256(seed.to_bytes(8, "big") + mark).digest())
    evaluation: list[int] = []
    for mark in ordered[:-1]:
        if len(evaluation) >= wanted:
            break
        if len(evaluation) + len(groups[mark]) <= max(wanted, 1):
            evaluation += groups[mark]
    chosen = set(evaluation)
    train = [index for group in groups.values() for index in group if index not in chosen]
    return Split(sorted(train), sorted(evaluation), test)
