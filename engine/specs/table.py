"""Which objective works with which tuner on which base, as a table for readers; made from the specs alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.objectives import OBJECTIVES
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from engine.tuners import TUNERS

FORMS = {"none": "plain", "int8": "int8", "nf4": "nf4"}
"""The forms of a base, and what a cell calls them."""
YES = {True: "yes", False: "–"}


def markdown() -> str:
    """A row for each tuner: the forms of the base on which it trains each objective, and what it can do besides."""
    head = ["tuner", *OBJECTIVES, "merges", "packs rows"]
    return "\n".join([_row(head), _row(["---"] * len(head)), *map(_row, _rows())])


def _rows() -> Iterator[list[str]]:
    for kind, tuner in TUNERS.items():
        yield [f"`{kind}`", *(_forms(name, kind) for name in OBJECTIVES), YES[tuner.merges], YES[tuner.packs]]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _forms(objective: str, tuner: str) -> str:
    found = [shown for form, shown in FORMS.items() if _is_accepted(objective, tuner, form)]
    return "all" if len(found) == len(FORMS) else ", ".join(found) or "–"


def _is_accepted(objective: str, tuner: str, form: str) -> bool:
    data = {
        "model": {"quantization": form},
        "data": {"dataset": "rows"},
        "objective": {"kind": objective},
        "tuner": {"kind": tuner},
        "training": {"learning_rate": 1e-4},
    }
    try:
        parse(data)
    except ProblemError as error:  # what else is missing, such as a teacher, says nothing of the tuner
        return not any(str(one.where.field).startswith(("model.", "tuner.")) for one in error.problems)
    return True
