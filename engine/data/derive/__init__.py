"""Making a dataset version of others: one operation a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from engine.data.derive.assign_task_type import assign_task_type
from engine.data.derive.mix import mix
from engine.data.derive.name_clusters import name_clusters
from engine.data.derive.sample import sample
from engine.data.derive.set_split import set_split
from engine.data.derive.sources import Sources
from engine.data.derive.without import without
from engine.data.rows import Row

OPERATIONS: dict[str, Callable[[Sources, Any], Iterator[Row]]] = {
    "without": without,
    "sample": sample,
    "mix": mix,
    "set_split": set_split,
    "assign_task_type": assign_task_type,
    "name_clusters": name_clusters,
}
"""Kind of an operation → the rows that it makes; its settings are in `engine/specs/operations.py`."""
