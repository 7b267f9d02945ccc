"""The run card's numbers: what a run will do with its rows, and what stands in its way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow.parquet as pq

from engine.advice.defaults import defaults
from engine.data.packing import packed_sequences
from engine.data.tokens import Prepared, lengths
from engine.objectives import OBJECTIVES
from engine.objectives.protocol import Labelling
from engine.optimizers import OPTIMIZERS
from engine.specs.cadence import cadence, steps_per_epoch
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, ProblemError, problem
from engine.tuners import TUNERS

FAR = 10
"""A learning rate this many times the usual one, or this part of it, is meant only seldom."""


def plan(spec: JobSpec, prepared: Prepared, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Numbers of a run, and the problems and warnings that a person should see before it starts.

    `facts` are the model's, as `engine/models/inspect.py` gives them, and the kind of `device` that would compute.
    """
    counts = prepared.counts
    num_train = counts["train_sequences"]
    if spec.data.packing:
        num_train = packed_sequences(lengths(prepared.train_path), spec.data.max_length)
    steps = cadence(spec, num_train, counts["eval_sequences"])
    chosen: Any = spec.tuner
    tuner = TUNERS[chosen.kind]
    problems, warnings = _of_labels(spec, prepared)
    return {
        **counts,
        "train_sequences": num_train,
        "steps": steps.total,
        "steps_per_epoch": steps_per_epoch(spec, num_train),
        "eval_every_steps": steps.eval_every,
        "save_every_steps": steps.save_every,
        "effective_batch": spec.effective_batch,
        "trainable": tuner.trainable(chosen, dict(facts)),
        "parameters": facts.get("parameters"),
        "problems": [
            item.as_dict() for item in (*beyond_context(spec, counts, facts.get("context_length")), *problems)
        ],
        "warnings": [item.as_dict() for item in (*_warnings(spec, counts, num_train, facts), *warnings)],
    }


def _of_labels(spec: JobSpec, prepared: Prepared) -> tuple[list[Problem], list[Problem]]:
    """What keeps the rows' labels from being learned, and what has to be said of those of the evaluation."""
    objective = OBJECTIVES[spec.objective.kind]
    if objective.head != "classifier" or not isinstance(objective, Labelling):
        return [], []
    try:
        known = set(objective.labels(pq.read_table(prepared.train_path, columns=["label"])))
    except ProblemError as error:
        return list(error.problems), []
    if prepared.eval_path is None:
        return [], []
    asked = [str(label) for label in pq.read_table(prepared.eval_path, columns=["label"])["label"]]
    unknown = sum(label not in known for label in asked)
    return [], [problem("labels_unknown", field="data.dataset", rows=unknown)] if unknown else []


def beyond_context(spec: JobSpec, counts: Mapping[str, Any], context: int | None) -> list[Problem]:
    """A problem if the longest row, in tokens after cutting, is longer than the model's context; none if not known."""
    longest = counts["longest_row_tokens"]
    if context and longest > context:
        values = {"given": spec.data.max_length, "allowed": context, "longest": longest}
        return [problem("spec_longer_than_context", field="data.max_length", **values)]
    return []


def _warnings(spec: JobSpec, counts: Mapping[str, Any], num_train: int, facts: Mapping[str, Any]) -> list[Problem]:
    found: list[Problem] = []
    num_sequences = num_train * max(1, spec.objective.needs().samples)
    if num_sequences < spec.effective_batch:
        found.append(
            problem("rows_below_batch", field="training.batch_size", rows=num_sequences, batch=spec.effective_batch)
        )
    if counts["cut_rows"]:
        cut = {"rows": counts["cut_rows"], "answers": counts["cut_answers"], "max_length": spec.data.max_length}
        percent = round(100 * counts["cut_answers_share"], 1)
        found.append(problem("rows_cut", field="data.max_length", percent=percent, **cut))
    if counts["split_rows"]:
        values = {"rows": counts["split_rows"], "max_length": spec.data.max_length}
        found.append(problem("rows_split", field="data.max_length", **values))
    if counts["unused_parts"]:
        found.append(problem("parts_unused", field="data.max_length", parts=counts["unused_parts"]))
    for code, count in counts["left_out"].items():
        found.append(problem(code.replace("row_", "rows_", 1), field="data.dataset", rows=count))
    if spec.data.mix_in:
        added = {"rows": counts["mixed_in_rows"], "dataset": spec.data.mix_in}
        found.append(problem("rows_mixed_in", field="data.mix_in", **added))
    if spec.data.eval_fraction and not counts["eval_sequences"]:
        found.append(problem("no_evaluation_rows", field="data.eval_fraction"))
    if counts["rewritten_rows"]:
        found.append(problem("rows_rewritten", field="model.id", rows=counts["rewritten_rows"]))
    home = OPTIMIZERS[spec.training.optimizer].home
    if home and facts.get("device", home) != home:
        found.append(problem("optimizer_not_at_home", field="training.optimizer", optimizer=spec.training.optimizer))
    found += _of_rate(spec, facts)
    if facts.get("template_added"):
        found.append(problem("template_added", field="model.chat_template", template=facts["template_added"]))
    if facts.get("marks_turn_end") is False:
        found.append(problem("no_turn_end", field="model.id"))
    return found


def _of_rate(spec: JobSpec, facts: Mapping[str, Any]) -> list[Problem]:
    """What has to be said of a learning rate that is far from what the form would have proposed."""
    about = {"objective": spec.objective.kind, "tuner": spec.tuner.kind, "optimizer": spec.training.optimizer}
    usual = defaults({**facts, **about}).get("training.learning_rate")
    given = spec.training.learning_rate
    if usual is None or usual.value / FAR <= given <= usual.value * FAR:
        return []
    code = "rate_far_above" if given > usual.value else "rate_far_below"
    return [problem(code, field="training.learning_rate", given=f"{given:g}", usual=f"{usual.value:g}")]
