"""What an objective is: what is learned from which rows. One file an objective, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from engine.specs.objective import ObjectiveSpec


class Objective(Protocol):
    """An entry of the catalogue; stateless, torch only inside `trainer`. Implementations set class attributes."""

    @property
    def kind(self) -> str: ...

    @property
    def Spec(self) -> type[ObjectiveSpec]:
        """Its own section of a run's spec."""
        ...

    @property
    def row_kinds(self) -> Sequence[str]:
        """The kinds of canonical rows it takes (see `engine/data/rows.py`)."""
        ...

    @property
    def head(self) -> str:
        """What its model gives: `language`, the next token; `classifier`, one of the labels; `score`, a number."""
        ...

    @property
    def learning_rate(self) -> float:
        """The usual rate where all weights of a model of several billion parameters move."""
        ...

    @property
    def packs(self) -> bool:
        """Whether a row is one sequence, so that rows can share one and a long row can become several."""
        ...

    @property
    def curves(self) -> Sequence[str]:
        """Names of its metrics beyond loss, learning rate, gradient norm and speed, in the order of their charts."""
        ...

    @property
    def metric(self) -> str | None:
        """Its own measure of success at an evaluation, by its name without `eval_`; more is better. None: the loss."""
        ...

    @property
    def best_by(self) -> str:
        """What its best checkpoint is chosen by unless a run says otherwise: `loss`, or `metric`."""
        ...

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Any, room: Any) -> Sequence[dict[str, Any]]:
        """Turn one canonical row into zero or more rows of token columns (see `engine/data/render.py`).

        Each has the columns of this objective's dataset, and fits into the `Room` of `engine/data/room.py`. A column
        holds lists of whole numbers, whole numbers, numbers, truths or texts. The row's `task_type` is added to them.
        """
        ...

    def trainer(self, parts: Any) -> Any:
        """Build the library's trainer from the `TrainerParts` of `engine/runtime/parts.py`."""
        ...


@runtime_checkable
class Labelling(Protocol):
    """An objective whose model has a head of its own in the place of the language model's."""

    def labels(self, train: Any) -> Sequence[str]:
        """The names of the head's outputs, from the training rows of tokens.

        Raises:
            ProblemError: there are too few or too many.
        """
        ...
