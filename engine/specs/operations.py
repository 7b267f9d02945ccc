"""The operations that make a dataset version of others: their settings. Rows are numbered from 0."""

from __future__ import annotations

from typing import Annotated, Literal

import regex
from pydantic import Field, model_validator

from engine.specs.base import EntrySpec, Spec, SpecError, setting
from engine.specs.problem import problem

SEED = 2**31 - 1
MOST_CLUSTERS = 20
KEY = r"^[0-9a-f]{16}$"
TaskType = Annotated[str, Field(max_length=200)]


class Without(EntrySpec):
    """Leave out what an examination found, rows by their numbers, or both."""

    kind: Literal["without"] = "without"
    examined: str | None = setting(
        None, "Examination", "The key of the examination that the findings are of.", pattern=KEY
    )
    findings: tuple[str, ...] = setting(
        (), "Findings", "Their rows that need not stay are left out: of equal rows, all but the first."
    )
    rows: tuple[int, ...] = setting((), "Rows", "Further rows to leave out, by their numbers.", max_length=1_000_000)

    @model_validator(mode="after")
    def _something_to_leave_out(self) -> Without:
        if not self.findings and not self.rows:
            raise SpecError(problem("spec_nothing_left_out", field="operation.findings"))
        if self.findings and self.examined is None:
            raise SpecError(problem("spec_missing_field", field="operation.examined", given="", allowed="", detail=""))
        return self


class Sample(EntrySpec):
    """Keep some of the training rows; a smaller sample is part of every larger one. Held-out rows all stay."""

    kind: Literal["sample"] = "sample"
    rows: int | None = setting(None, "Rows", "How many training rows are kept.", ge=1)
    share: float | None = setting(None, "Share", "Share of the training rows that is kept.", gt=0.0, lt=1.0)
    stratified: bool = setting(False, "Per task type", "Keep the same share of each task type.")
    seed: int = setting(42, "Seed", "Another seed keeps other rows.", ge=0, le=SEED)

    @model_validator(mode="after")
    def _one_size(self) -> Sample:
        if (self.rows is None) == (self.share is None):
            raise SpecError(problem("spec_rows_or_share", field="operation.rows"))
        return self


class Mix(EntrySpec):
    """Put several datasets into one, with weights: rows are repeated or left out until the shares are right."""

    kind: Literal["mix"] = "mix"
    weights: tuple[float, ...] = setting(
        (), "Weights", "Share of each source's training rows; empty: by their numbers of rows."
    )
    temperature: float = setting(
        1.0, "Temperature", "Above 1 the weights are drawn towards each other; 1 leaves them.", ge=0.1, le=100.0
    )
    rows: int | None = setting(
        None, "Rows", "Training rows of the mixture; empty: as many as the sources have.", ge=1, le=100_000_000
    )
    seed: int = setting(42, "Seed", "Another seed takes other rows.", ge=0, le=SEED)

    @model_validator(mode="after")
    def _weights_weigh(self) -> Mix:
        if self.weights and (min(self.weights) < 0 or sum(self.weights) <= 0):
            raise SpecError(problem("spec_weights", field="operation.weights", given=str(list(self.weights))))
        return self


class SetSplit(EntrySpec):
    """Mark rows as held out or as training; the marks that were there are replaced.

    With two sources, the second is held out as a whole.
    """

    kind: Literal["set_split"] = "set_split"
    share: float = setting(0.1, "Share", "Share of the rows that is held out.", gt=0.0, lt=1.0)
    by: Literal["row", "group"] = setting(
        "row", "Kept together", "row: equal rows; group: all rows of one group, such as a customer's."
    )
    stratified_by: Literal["nothing", "task_type", "label"] = setting(
        "nothing", "Shares alike in", "Hold out the same share of each task type, or of each label (short answer)."
    )
    seed: int = setting(42, "Seed", "Another seed holds out other rows.", ge=0, le=SEED)

    @model_validator(mode="after")
    def _groups_stay_whole(self) -> SetSplit:
        if self.by == "group" and self.stratified_by != "nothing":
            raise SpecError(problem("spec_groups_or_strata", field="operation.stratified_by"))
        return self


class Rule(Spec):
    """Rows that meet all that the rule says get its task type."""

    task_type: str = setting(..., "Task type", "The task type that is given.", min_length=1, max_length=200)
    field: Literal["prompt", "answer", "row"] = setting("prompt", "Where", "What is looked at.")
    contains: str | None = setting(None, "Contains", "Text that must be in it, in this case.", max_length=1000)
    regex: str | None = setting(None, "Pattern", "A regular expression that must match somewhere.", max_length=1000)
    shortest: int | None = setting(None, "Shortest", "Least length of it.", unit="characters", ge=0)
    longest: int | None = setting(None, "Longest", "Greatest length of it.", unit="characters", ge=0)


class AssignTaskType(EntrySpec):
    """Give rows a task type: by rules, of which the first that fits counts, or one for each source."""

    kind: Literal["assign_task_type"] = "assign_task_type"
    rules: tuple[Rule, ...] = Field((), title="Rules", description="The first that fits counts.", max_length=100)
    by_source: tuple[str, ...] = setting(
        (), "Per source", "The task type of each source's rows, in the order of the sources."
    )
    keep: bool = setting(True, "Keep others", "Rows that have a task type keep it.")

    @model_validator(mode="after")
    def _patterns_are_patterns(self) -> AssignTaskType:
        wrong = []
        for place, rule in enumerate(self.rules):
            try:
                regex.compile(rule.regex or "")
            except regex.error as error:
                where = f"operation.rules.{place}.regex"
                wrong.append(problem("spec_bad_pattern", field=where, given=rule.regex, detail=str(error)))
        if not self.rules and not self.by_source:
            wrong.append(problem("spec_no_rules", field="operation.rules"))
        if wrong:
            raise SpecError(*wrong)
        return self


class NameClusters(EntrySpec):
    """Give rows the name of the cluster that they are in as their task type."""

    kind: Literal["name_clusters"] = "name_clusters"
    clustered: str = setting(..., "Clusters", "The key of the proposal that the clusters are of.", pattern=KEY)
    names: tuple[TaskType, ...] = setting(
        ...,
        "Names",
        "The task type of each cluster, in their order; empty: its rows get none.",
        max_length=MOST_CLUSTERS,
    )
    keep: bool = setting(True, "Keep others", "Rows that have a task type keep it.")

    @model_validator(mode="after")
    def _something_is_named(self) -> NameClusters:
        if not any(name.strip() for name in self.names):
            raise SpecError(problem("spec_no_cluster_names", field="operation.names"))
        return self


OPERATIONS: dict[str, type[EntrySpec]] = {
    "without": Without,
    "sample": Sample,
    "mix": Mix,
    "set_split": SetSplit,
    "assign_task_type": AssignTaskType,
    "name_clusters": NameClusters,
}
