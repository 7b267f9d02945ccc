"""Give rows the names of their clusters as task types."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow

from engine.data.clusters.grouping import NONE, Labels
from engine.data.clusters.proposal import labels_path, read_labels
from engine.data.derive.sources import Sources
from engine.data.rows import Row
from engine.specs.operations import NameClusters
from engine.specs.problem import ProblemError, problem


def name_clusters(sources: Sources, settings: NameClusters) -> Iterator[Row]:
    """All rows; those of a cluster without a name keep what they had."""
    place = sources.only()
    labels = _labels(sources, place, settings.clustered)
    num_clusters = int(labels.max()) + 1
    if len(settings.names) != num_clusters:
        given = {"given": len(settings.names), "clusters": num_clusters}
        raise ProblemError([problem("data_cluster_names", field="operation.names", **given)])
    names = [name.strip() or None for name in settings.names]
    for row, label in zip(sources.rows(place), labels, strict=True):
        name = names[label] if label != NONE else None
        yield row if name is None or (settings.keep and row["task_type"]) else {**row, "task_type": name}


def _labels(sources: Sources, place: int, key: str) -> Labels:
    try:
        labels = read_labels(labels_path(sources.paths[place], key))
    except (OSError, pyarrow.ArrowException) as error:
        raise _not_clustered(key) from error
    if len(labels) != sources.sizes[place]:
        raise _not_clustered(key)
    return labels


def _not_clustered(key: str) -> ProblemError:
    return ProblemError([problem("data_not_clustered", field="operation.clustered", given=key)])
