"""What a tuner is: which weights move. One file a tuner, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from engine.specs.base import EntrySpec
from engine.specs.problem import Problem


@dataclass(frozen=True, slots=True)
class Given:
    """What a tuner is told of the run beside its own settings."""

    task: str
    """PEFT's name of the model's task: `CAUSAL_LM` or `SEQ_CLS`."""
    total_steps: int
    train: Any
    """The training rows of tokens, for what is initialised from data."""
    tokenizer: Any
    new_tokens: Sequence[str] = ()
    """Tokens that the run brings in, which have to be learned."""
    goes_on: bool = False
    """Whether the new weights only make room for an earlier run's, which are put into them next."""


class Tuner(Protocol):
    """An entry of the catalogue; stateless, torch only inside `prepare`. Implementations set class attributes."""

    @property
    def kind(self) -> str: ...

    @property
    def Spec(self) -> type[EntrySpec]:
        """Its own section of a run's spec."""
        ...

    @property
    def refuses(self) -> Mapping[str, str]:
        """The quantised forms of the base that it cannot train on, each with its reason: `tuner_refuses.REASON`."""
        ...

    @property
    def merges(self) -> bool:
        """Whether what it trained can be folded into the base's weights, so that a plain model behaves the same."""
        ...

    @property
    def packs(self) -> bool:
        """Whether several rows can share a sequence under it."""
        ...

    @property
    def rate_factor(self) -> float:
        """Its usual learning rate as a multiple of that of full fine-tuning."""
        ...

    @property
    def is_adapter(self) -> bool:
        """Whether its checkpoints hold an adapter (true) or whole weights (false)."""
        ...

    def prepare(self, model: Any, spec: Any, given: Given) -> Any:
        """Return the model with exactly the weights trainable that this tuner moves."""
        ...

    def trainable(self, spec: Any, facts: dict[str, Any]) -> int:
        """Number of weights that move, from the model's facts alone."""
        ...


@runtime_checkable
class Particular(Protocol):
    """A tuner of which some settings do not fit every base."""

    def misfits(self, spec: Any, quantization: str) -> Sequence[Problem]:
        """What of its settings cannot work on a base in this form."""
        ...


@runtime_checkable
class Restoring(Protocol):
    """A tuner whose checkpoints hold more, or something else, than the library's own file of the adapter."""

    def store(self, model: Any, folder: Path) -> None:
        """Complete what the library has just written into the folder of a checkpoint."""
        ...

    def restore(self, model: Any, folder: Path, load: Callable[[], None], *, goes_on: bool = False) -> None:
        """Take up what `store` wrote; `load` loads the library's own file of the adapter.

        With `goes_on` a new run begins with these weights: what belongs to the earlier run alone is left out.
        """
        ...

    def stored(self, model: Any) -> Mapping[str, Any]:
        """The weights that the checkpoint of this very moment holds, by their names there; what it names here wins."""
        ...


@runtime_checkable
class Verbal(Protocol):
    """A tuner that learns the embeddings of new tokens."""

    @property
    def learns_new_tokens(self) -> Literal[True]: ...


@runtime_checkable
class Paced(Protocol):
    """A tuner that does something of its own at every step."""

    def penalty(self, model: Any) -> Any:
        """What is added to the loss of a step; the curve of the loss shows none of it."""
        ...

    def after_step(self, model: Any, step: int) -> None:
        """Run after the optimiser's step, before its gradients are cleared; `step` counts from 1."""
        ...


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a run with a tuner of its own."""

    tuner: Mapping[str, Any]
    """The tuner's section of a spec."""
    until: int
    """Its last step."""
    rate_factor: float = 1.0
    """Its learning rate as a multiple of the run's."""
    warmup_ratio: float | None = None
    """Its own warm-up; the run's where it is None."""


@runtime_checkable
class Phased(Protocol):
    """A tuner that is several, one after the other."""

    def phases(self, spec: Any, total_steps: int) -> Sequence[Phase]:
        """The phases in their order; the last one ends with the run."""
        ...
