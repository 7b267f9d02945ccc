"""What a way of merging is: several models' weights become one's, tensor by tensor. One file a way, one line in
`__init__`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from engine.specs.base import EntrySpec


@dataclass(frozen=True, slots=True)
class Beside:
    """What a tensor is merged with besides its values."""

    seed: int
    """Of this tensor; what is drawn for it is the same in whichever order tensors come."""
    importance: Sequence[Any] = ()
    """A tensor of the same shape for each source: how much its values matter; empty unless `needs_rows`."""


class Merge(Protocol):
    """An entry of the catalogue; stateless, torch only inside function bodies. Implementations set class attributes."""

    @property
    def kind(self) -> str: ...

    @property
    def Spec(self) -> type[EntrySpec]:
        """Its own settings."""
        ...

    @property
    def most(self) -> int:
        """How many sources it takes."""
        ...

    @property
    def needs_rows(self) -> bool:
        """Whether it looks at rows of a dataset to tell which values matter."""
        ...

    @property
    def of_one_run(self) -> bool:
        """Whether its sources are the checkpoints of one run, first step first."""
        ...

    @property
    def keeps_rank(self) -> bool:
        """Whether what it makes of adapters is an adapter again to the last bit, as wide as all of them together."""
        ...

    def of_changes(self, spec: Any) -> bool:
        """Whether it merges what each source changed in their common base, and not the weights themselves."""
        ...

    def shares(self, weights: Sequence[float], spec: Any) -> list[float]:
        """What each source counts, from what a person gave."""
        ...

    def merge(self, tensors: Sequence[Any], shares: Sequence[float], spec: Any, beside: Beside) -> Any:
        """The merged tensor; float32 in and out, all of one shape."""
        ...
