"""What an export form is: how a checkpoint is written for others, and how they load it.

One file a form, one line in `__init__`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

from engine.exporters.heads import Head


class Parts(Protocol):
    """What a form is made from; see `engine.models.sources`. Loading methods import torch."""

    @property
    def base_name(self) -> str:
        """What the base is called elsewhere; never a path."""
        ...

    @property
    def base_id(self) -> str | None:
        """The hub id of the very weights that were trained on; None where nobody gets them from the hub."""
        ...

    @property
    def revision(self) -> str | None:
        """Their commit on the hub."""
        ...

    @property
    def quantizer(self) -> Mapping[str, Any]:
        """Arguments of `BitsAndBytesConfig` with which the chat loads the base; none where it is not quantised."""
        ...

    @property
    def arithmetic(self) -> str:
        """Name of the number format that this machine computes in for the check."""
        ...

    @property
    def written(self) -> str:
        """Name of the 16-bit number format that whole weights are written in."""
        ...

    @property
    def dtype(self) -> str:
        """Name of the number format that the chat loads the base in."""
        ...

    @property
    def device(self) -> str:
        """Where the check computes."""
        ...

    @property
    def has_adapter(self) -> bool:
        """Whether there is an adapter beside a base; else the base is the trained model itself."""
        ...

    @property
    def head(self) -> Head | None:
        """What is in the place of the language model's head; None for a language model."""
        ...

    @property
    def library_class(self) -> str:
        """The class of transformers that loads it."""
        ...

    def base(self) -> Any:
        """The base to merge onto, in the format `written`: as the run saw it, or the original."""
        ...

    def chat_base(self) -> Any:
        """The base exactly as the chat loads it."""
        ...

    def plain_base(self) -> Any:
        """The base as the lines of an adapter load it."""
        ...

    def attach(self, model: Any) -> Any:
        """The model with the trained adapter beside it."""
        ...

    def adapter_files(self) -> dict[str, bytes | Path]:
        """The adapter's files for others, with no trace of this machine."""
        ...


class Exporter(Protocol):
    """An entry of the catalogue; stateless, torch only inside function bodies."""

    kind: ClassVar[str]
    needs_adapter: ClassVar[bool]
    """Whether only runs that trained an adapter can be written in this form."""
    merges: ClassVar[bool]
    """Whether an adapter becomes a part of its base in this form."""

    def formats(self, parts: Parts) -> Sequence[str]:
        """Number formats to write in: the next is tried where the one before rounds too much away."""
        ...

    def write(self, parts: Parts, folder: Path) -> None:
        """Write the weights and their configuration into the folder."""
        ...

    def load_back(self, parts: Parts, folder: Path) -> Any:
        """Load the written folder as a stranger would, with nothing but the plain libraries."""
        ...

    def lines(self, parts: Parts, name: str) -> Sequence[str]:
        """The lines of Python that load it elsewhere; `name` is the folder's name there."""
        ...
