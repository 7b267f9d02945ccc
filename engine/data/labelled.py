"""A text and its label as tokens: what a label head reads, and what it is to say."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from engine.data.rendered import Rendered, Span, TokenRow, sequence_view
from engine.data.room import Room


@dataclass(frozen=True, slots=True)
class RenderedLabel:
    """The prompt as a model is given it, with nothing trained in it: the loss is that of the label."""

    prompt: Rendered
    label: str

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return self.prompt.num_tokens

    @property
    def longest(self) -> int:
        return self.prompt.longest

    @property
    def num_trained(self) -> int:
        """No token carries loss."""
        return 0

    @property
    def num_answers(self) -> int:
        return 0

    @property
    def answers_cut(self) -> int:
        return 0

    @property
    def truncated(self) -> int:
        """Tokens that are cut away."""
        return self.prompt.truncated

    @property
    def too_long(self) -> bool:
        """Whether it is left out because of its length."""
        return self.prompt.too_long

    @property
    def part(self) -> int:
        return 0

    @property
    def usable(self) -> bool:
        """Whether there is something to read."""
        return self.prompt.num_kept > 0

    def spans(self) -> list[tuple[int, tuple[Span, ...]]]:
        return self.prompt.spans()

    def fit(self, room: Room) -> list[RenderedLabel]:
        """As it is read: one sequence, with what `room` leaves of it."""
        return [replace(self, prompt=one) for one in self.prompt.fit(room)]

    def columns(self) -> TokenRow:
        """`input_ids` and the `label` as text."""
        kept = self.prompt.ids[self.prompt.first : self.prompt.end]
        return TokenRow({"input_ids": list(kept), "label": self.label}, self)

    def view(self) -> list[dict[str, Any]]:
        """The sequence for the token view, with its label."""
        return [{**sequence_view("row", self.prompt), "label": self.label}]
