"""Which rows train, which measure the loss, and which are held out: decided by content, so that it stays."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

from engine.data.rows import TEST, Row, fingerprint


class Split(NamedTuple):
    """Row numbers, each in ascending order."""

    train: list[int]
    eval: list[int]
    test: list[int]


def split(rows: Iterable[Row], eval_fraction: float, seed: int, by: str = "row") -> Split:
    """Put the share `eval_fraction` of the rows that are not held out into evaluation.

    The rows with the smallest hashes are taken: equal rows stay together, and a row hardly ever changes sides when
    others are added. Training keeps at least one row. By `group`, all rows of a group stay together; by `task_type`,
    the share is taken of each task type.
    """
    test: list[int] = []
    strata: dict[str, dict[bytes, list[int]]] = {}
    for index, row in enumerate(rows):
        if row["split"] == TEST:
            test.append(index)
        else:
            stratum, mark = PLACES[by](row)
            strata.setdefault(stratum, {}).setdefault(mark, []).append(index)
    train: list[int] = []
    evaluation: list[int] = []
    for groups in strata.values():
        trained, kept_aside = _divide(groups, eval_fraction, seed)
        train += trained
        evaluation += kept_aside
    return Split(sorted(train), sorted(evaluation), test)


def _group(row: Row) -> tuple[str, bytes]:
    group = row.get("group")
    return "", hashlib.blake2b(group.encode(), digest_size=16, person=b"group").digest() if group else fingerprint(row)


PLACES: dict[str, Callable[[Row], tuple[str, bytes]]] = {
    "row": lambda row: ("", fingerprint(row)),
    "group": _group,
    "task_type": lambda row: (row.get("task_type") or "", fingerprint(row)),
}
"""What the share is taken of, and what stays together there."""


def place(mark: bytes, seed: int) -> bytes:
    """Where a row or group stands in the order of a seed; the smallest are taken first."""
    return hashlib.sha256(seed.to_bytes(8, "big") + mark).digest()


def _divide(groups: dict[bytes, list[int]], eval_fraction: float, seed: int) -> tuple[list[int], list[int]]:
    num_rows = sum(map(len, groups.values()))
    wanted = max(1, round(num_rows * eval_fraction)) if eval_fraction > 0 else 0
    ordered = sorted(groups, key=lambda mark: place(mark, seed))
    evaluation: list[int] = []
    for mark in ordered[:-1]:
        if len(evaluation) >= wanted:
            break
        if len(evaluation) + len(groups[mark]) <= max(wanted, 1):
            evaluation += groups[mark]
    chosen = set(evaluation)
    train = [index for group in groups.values() for index in group if index not in chosen]
    return train, evaluation
