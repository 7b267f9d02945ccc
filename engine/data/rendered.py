"""Rows as tokens: the columns that a trainer takes and the view that a person sees, from the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

NOT_TRAINED = -100


class Texts(Protocol):
    """Turns ids into readable pieces of text."""

    def of(self, ids: Sequence[int]) -> list[str]: ...


class TokenRow(dict[str, list[int]]):
    """The token columns of one row for the trainer, with where they come from for the view and the counts."""

    def __init__(self, columns: dict[str, list[int]], source: Rendered | RenderedPair) -> None:
        super().__init__(columns)
        self.source = source


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence: `ids`, whether each is `trained`, and how many are kept from the start."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    num_kept: int
    pieces: Texts = field(repr=False, compare=False)

    @property
    def texts(self) -> list[str]:
        """A readable piece for each token."""
        return self.pieces.of(self.ids)

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return self.num_kept

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.num_kept

    @property
    def num_trained(self) -> int:
        """Kept tokens that carry loss. A sequence's first token is never predicted."""
        return sum(self.trained[1 : self.num_kept])

    @property
    def truncated(self) -> int:
        """Tokens that are cut away."""
        return len(self.ids) - self.num_kept

    @property
    def answers_cut(self) -> int:
        """How many of the sequence's answers lost tokens."""
        starts = [i for i, on in enumerate(self.trained) if on and (i == 0 or not self.trained[i - 1])]
        return sum(self._run_end(start) > self.num_kept for start in starts)

    @property
    def num_answers(self) -> int:
        """Trained answers before the cut."""
        return sum(on and (i == 0 or not self.trained[i - 1]) for i, on in enumerate(self.trained))

    @property
    def usable(self) -> bool:
        """Whether anything is learned from it."""
        return self.num_trained > 0

    def cut(self, max_length: int) -> Rendered:
        """Keep at most `max_length` tokens, from the start."""
        return replace(self, num_kept=min(max_length, len(self.ids)))

    def sft_columns(self) -> TokenRow:
        """`input_ids` and `labels`, −100 where nothing is trained."""
        kept = self.num_kept
        pairs = zip(self.ids[:kept], self.trained[:kept], strict=True)
        labels = [token if on else NOT_TRAINED for token, on in pairs]
        return TokenRow({"input_ids": list(self.ids[:kept]), "labels": labels}, self)

    def view(self) -> list[dict[str, Any]]:
        """The sequences for the token view."""
        return [sequence_view("row", self)]

    def _run_end(self, start: int) -> int:
        return next((i for i in range(start, len(self.trained)) if not self.trained[i]), len(self.trained))


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two answers to one prompt; `chosen` and `rejected` are what is kept of the whole answers."""

    prompt: tuple[int, ...]
    chosen_all: tuple[int, ...]
    rejected_all: tuple[int, ...]
    pieces: Texts = field(repr=False, compare=False)
    max_length: int | None = None

    @property
    def room(self) -> int:
        """Tokens left for an answer."""
        longest = max(len(self.chosen_all), len(self.rejected_all))
        return longest if self.max_length is None else max(0, self.max_length - len(self.prompt))

    @property
    def chosen(self) -> tuple[int, ...]:
        return self.chosen_all[: self.room]

    @property
    def rejected(self) -> tuple[int, ...]:
        return self.rejected_all[: self.room]

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes: the prompt is computed with each answer."""
        return 2 * len(self._prompt_kept) + self.num_trained

    @property
    def longest(self) -> int:
        """Tokens of the longer of the two sequences."""
        return len(self._prompt_kept) + max(len(self.chosen), len(self.rejected))

    @property
    def num_trained(self) -> int:
        """Tokens of both answers."""
        return len(self.chosen) + len(self.rejected)

    @property
    def truncated(self) -> int:
        """Tokens that are cut away on both sides."""
        return len(self.chosen_all) + len(self.rejected_all) - self.num_trained

    @property
    def answers_cut(self) -> int:
        """How many of the two answers lost tokens."""
        return (self.chosen != self.chosen_all) + (self.rejected != self.rejected_all)

    @property
    def num_answers(self) -> int:
        return 2

    @property
    def usable(self) -> bool:
        """Whether both answers are there and differ."""
        return bool(self.chosen) and bool(self.rejected) and self.chosen != self.rejected

    def cut(self, max_length: int) -> RenderedPair:
        """Let prompt and answer together have at most `max_length` tokens each, from the start."""
        return replace(self, max_length=max_length)

    def dpo_columns(self) -> TokenRow:
        """`prompt_ids`, `chosen_ids` and `rejected_ids`; the prompt is the same for both."""
        columns = {
            "prompt_ids": list(self._prompt_kept),
            "chosen_ids": list(self.chosen),
            "rejected_ids": list(self.rejected),
        }
        return TokenRow(columns, self)

    def view(self) -> list[dict[str, Any]]:
        """The sequences for the token view: the prompt with each answer."""
        sides = (("chosen", self.chosen_all, self.chosen), ("rejected", self.rejected_all, self.rejected))
        return [sequence_view(name, self._side(whole, kept)) for name, whole, kept in sides]

    @property
    def _prompt_kept(self) -> tuple[int, ...]:
        return self.prompt[: self.max_length]

    def _side(self, whole: tuple[int, ...], kept: tuple[int, ...]) -> Rendered:
        trained = (False,) * len(self.prompt) + (True,) * len(whole)
        return Rendered(self.prompt + whole, trained, len(self._prompt_kept) + len(kept), self.pieces)


def sequence_view(name: str, rendered: Rendered) -> dict[str, Any]:
    """One sequence as JSON: each token with its text and whether it is trained, context or cut."""
    tokens = []
    for index, (token, on, text) in enumerate(zip(rendered.ids, rendered.trained, rendered.texts, strict=True)):
        kept = index < rendered.num_kept
        state = "cut" if not kept else "trained" if on else "context"
        tokens.append({"id": token, "text": text, "trained": kept and on, "state": state})
    return {
        "name": name,
        "tokens": tokens,
        "num_tokens": len(tokens),
        "num_trained": sum(token["trained"] for token in tokens),
        "num_cut": rendered.truncated,
    }
