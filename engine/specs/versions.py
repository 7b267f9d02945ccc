"""The specs of the jobs on stored dataset versions: look for what is wrong, make a new version, write files."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator

from engine.specs.base import EntrySpec, Spec, SpecError, entry_of, setting
from engine.specs.operations import MOST_CLUSTERS, OPERATIONS, SEED
from engine.specs.problem import problem

CHECKS = (
    "duplicates",
    "near_duplicates",
    "answers",
    "lengths",
    "languages",
    "label_noise",
    "answer_format",
    "leaks",
    "leftovers",
    "secrets",
    "personal_data",
    "imbalance",
)
"""The names of the doctor's checks."""
WRITTEN_AS = ("jsonl", "parquet", "csv")
"""The kinds of files that a version can be written as."""
MOST_SOURCES = 20


class VersionPart(Spec):
    """A dataset version: by its name and number, and by the hash of its rows, which holds under other names too."""

    dataset: str = setting(..., "Dataset", "The dataset, by its name on the Data page.", min_length=1, max_length=200)
    version: int = setting(..., "Version", "The version of the dataset.", ge=1)
    sha256: str = Field(description="The hash of the version's rows.", min_length=1, max_length=64)


class ExamineSpec(Spec):
    """Look through a version's rows for what would spoil a run."""

    data: VersionPart
    checks: tuple[str, ...] = setting(CHECKS, "Checks", "What is looked for.", min_length=1)
    near_threshold: float = setting(
        0.85, "Similarity", "Share of common pieces from which on two texts are near duplicates.", ge=0.5, le=1.0
    )
    near_on: Literal["row", "prompt", "answer"] = setting(
        "row", "Compared", "What near duplicates are looked for among: whole rows, prompts or answers."
    )

    @field_validator("checks")
    @classmethod
    def _known_checks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in CHECKS]
        if unknown:
            allowed = ", ".join(CHECKS)
            raise SpecError(problem("spec_not_a_choice", field="checks", given=repr(unknown[0]), allowed=allowed))
        return tuple(name for name in CHECKS if name in value)


class ClusterSpec(Spec):
    """Propose task types: put a version's prompts into clusters of alike ones."""

    data: VersionPart
    clusters: int = setting(8, "Clusters", "How many are proposed at most.", ge=2, le=MOST_CLUSTERS)
    seed: int = setting(42, "Seed", "Another seed may propose others.", ge=0, le=SEED)


class DeriveSpec(Spec):
    """Make a new version of one or several others."""

    name: str = setting(..., "Name", "How the new dataset is called.", min_length=1, max_length=200)
    sources: tuple[VersionPart, ...] = Field(min_length=1, max_length=MOST_SOURCES)
    operation: SerializeAsAny[EntrySpec]

    @field_validator("operation", mode="before")
    @classmethod
    def _known_operation(cls, value: Any) -> EntrySpec:
        return entry_of(value, OPERATIONS, "operation")


class WriteDataSpec(Spec):
    """Write a version's rows as a file that others can read."""

    data: VersionPart
    form: Literal["jsonl", "parquet", "csv"] = setting(
        "jsonl", "Form", "jsonl: one JSON object a line; parquet: as it is stored; csv: messages as JSON in a cell."
    )
