"""Rows as tokens: the columns that a trainer takes and the view that a person sees, from the same values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from engine.data.room import UNBOUNDED, Room
from engine.specs.problem import ProblemError, problem

NOT_TRAINED = -100
Span = tuple[int, int]


class Texts(Protocol):
    """Turns ids into readable pieces of text."""

    def of(self, ids: Sequence[int]) -> list[str]: ...


class Source(Protocol):
    """What token columns come from, for the view and the counts."""

    @property
    def num_tokens(self) -> int: ...
    @property
    def longest(self) -> int: ...
    @property
    def num_trained(self) -> int: ...
    @property
    def num_answers(self) -> int: ...
    @property
    def answers_cut(self) -> int: ...
    @property
    def truncated(self) -> int: ...
    @property
    def too_long(self) -> bool: ...
    @property
    def part(self) -> int: ...
    @property
    def usable(self) -> bool: ...
    def spans(self) -> list[tuple[int, tuple[Span, ...]]]: ...
    def view(self) -> list[dict[str, Any]]: ...


class TokenRow(dict[str, Any]):
    """The token columns of one row for the trainer, with where they come from for the view and the counts."""

    def __init__(self, columns: dict[str, Any], source: Source) -> None:
        super().__init__(columns)
        self.source = source


@dataclass(frozen=True, slots=True)
class Rendered:
    """One sequence: `ids`, whether each is `trained`, and how many are kept from `first` on.

    `answers` are the tokens of each trained answer, `borders` where the turn of each is over: there it may be split.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    num_kept: int
    pieces: Texts = field(repr=False, compare=False)
    answers: tuple[Span, ...] = ()
    borders: tuple[int, ...] = ()
    first: int = 0
    too_long: bool = False
    """Whether it is left out because of its length."""
    part: int = 0
    """Which of several sequences it is that a long row was split into."""

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
        return sum(self.trained[self.first + 1 : self.end])

    @property
    def end(self) -> int:
        """The first token after the kept ones."""
        return self.first + self.num_kept

    @property
    def truncated(self) -> int:
        """Tokens that are cut away."""
        return len(self.ids) - self.num_kept

    @property
    def answers_cut(self) -> int:
        """How many of the sequence's answers lost tokens."""
        return sum(start < self.first or end > self.end for start, end in self.answers)

    @property
    def num_answers(self) -> int:
        """Trained answers before the cut."""
        return len(self.answers)

    @property
    def usable(self) -> bool:
        """Whether anything is learned from it."""
        return self.num_trained > 0

    def spans(self) -> list[tuple[int, tuple[Span, ...]]]:
        """The tokens of the whole sequence and of its trained answers."""
        return [(len(self.ids), self.answers)]

    def fit(self, room: Room) -> list[Rendered]:
        """The sequences that are trained: this one where it fits, else what `room` makes of it."""
        if len(self.ids) <= room.max_length:
            return [self]
        if room.truncation == "split":
            return self._split(room.max_length)
        if room.truncation == "drop":
            return [replace(self, num_kept=0, too_long=True)]
        if room.truncation == "cut_start":
            return [self._without_start(len(self.ids) - room.max_length)]
        return [replace(self, num_kept=room.max_length)]

    def sft_columns(self) -> TokenRow:
        """`input_ids` and `labels`, −100 where nothing is trained."""
        kept = slice(self.first, self.end)
        pairs = zip(self.ids[kept], self.trained[kept], strict=True)
        labels = [token if on else NOT_TRAINED for token, on in pairs]
        return TokenRow({"input_ids": list(self.ids[kept]), "labels": labels}, self)

    def weighted_columns(self) -> TokenRow:
        """Those of `sft_columns`, and `prompt`: 1 for each token that belongs to no answer, else 0."""
        answered = {place for start, end in self.answers for place in range(start, end)}
        made = self.sft_columns()
        made["prompt"] = [int(place not in answered) for place in range(self.first, self.end)]
        return made

    def view(self) -> list[dict[str, Any]]:
        """The sequences for the token view."""
        return [sequence_view("row", self)]

    def _without_start(self, first: int) -> Rendered:
        """Keep the end. What is left of an answer whose beginning is cut away is context."""
        trained = list(self.trained)
        for start, end in self.answers:
            if start < first < end:
                trained[first:end] = [False] * (end - first)
        return replace(self, trained=tuple(trained), first=first, num_kept=len(self.ids) - first)

    def _split(self, max_length: int) -> list[Rendered]:
        """Several sequences, divided where a turn is over; what is longer than `max_length` in itself, wherever."""
        parts, start = [], 0
        while len(self.ids) - start > max_length:
            ends = [border for border in self.borders if start < border <= start + max_length]
            end = ends[-1] if ends else start + max_length
            parts.append((start, end))
            start = end
        return [self._part(number, *ends) for number, ends in enumerate((*parts, (start, len(self.ids))))]

    def _part(self, number: int, start: int, end: int) -> Rendered:
        begun = tuple((a - start, min(b, end) - start) for a, b in self.answers if start <= a < end)
        return Rendered(self.ids[start:end], self.trained[start:end], end - start, self.pieces, begun, part=number)


@dataclass(frozen=True, slots=True)
class RenderedPair:
    """Two answers to one prompt; `chosen` and `rejected` are what is kept of the whole answers."""

    prompt: tuple[int, ...]
    chosen_all: tuple[int, ...]
    rejected_all: tuple[int, ...]
    pieces: Texts = field(repr=False, compare=False)
    max_length: int = UNBOUNDED
    first: int = 0
    """The first token of the prompt that is kept."""
    too_long: bool = False
    """Whether it is left out because of its length."""
    part: int = 0

    @property
    def left(self) -> int:
        """Tokens left for an answer."""
        return max(0, self.max_length - (len(self.prompt) - self.first))

    @property
    def chosen(self) -> tuple[int, ...]:
        return self.chosen_all[: self.left]

    @property
    def rejected(self) -> tuple[int, ...]:
        return self.rejected_all[: self.left]

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
        return 2 * self.first + len(self.chosen_all) + len(self.rejected_all) - self.num_trained

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

    def spans(self) -> list[tuple[int, tuple[Span, ...]]]:
        """The tokens of both whole sequences and of the answer in each."""
        start = len(self.prompt)
        ends = (start + len(self.chosen_all), start + len(self.rejected_all))
        return [(end, ((start, end),)) for end in ends]

    def fit(self, room: Room) -> list[RenderedPair]:
        """The pair as it is trained: prompt and answer together have at most `room.max_length` tokens on each side.

        Raises:
            ProblemError: `objective_cannot_split`, a pair is one whole.
        """
        longest = max(len(self.chosen_all), len(self.rejected_all))
        beyond = len(self.prompt) + longest - room.max_length
        if room.truncation == "split":
            raise ProblemError([problem("objective_cannot_split", field="data.truncation", objective="dpo")])
        if room.truncation == "drop" and beyond > 0:
            return [replace(self, max_length=0, too_long=True)]
        if room.truncation == "cut_start" and beyond > 0:
            return [replace(self, max_length=room.max_length, first=min(beyond, len(self.prompt) - 1))]
        return [replace(self, max_length=room.max_length)]

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
        return self.prompt[self.first :][: self.max_length]

    def _side(self, whole: tuple[int, ...], kept: tuple[int, ...]) -> Rendered:
        trained = (False,) * len(self.prompt) + (True,) * len(whole)
        answer = ((len(self.prompt), len(trained)),)
        kept_in_all = len(self._prompt_kept) + len(kept)
        return Rendered(self.prompt + whole, trained, kept_in_all, self.pieces, answer, first=self.first)


def sequence_view(name: str, rendered: Rendered) -> dict[str, Any]:
    """One sequence as JSON: each token with its text and whether it is trained, context or cut."""
    tokens = []
    for index, (token, on, text) in enumerate(zip(rendered.ids, rendered.trained, rendered.texts, strict=True)):
        kept = rendered.first <= index < rendered.end
        state = "cut" if not kept else "trained" if on else "context"
        tokens.append({"id": token, "text": text, "trained": kept and on, "state": state})
    return {
        "name": name,
        "tokens": tokens,
        "num_tokens": len(tokens),
        "num_trained": sum(token["trained"] for token in tokens),
        "num_cut": rendered.truncated,
    }
