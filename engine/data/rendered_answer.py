"""A judged answer as tokens: one answer to one prompt, for rows that say how good it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from engine.data.rendered import Rendered, Span, Texts, TokenRow, sequence_view
from engine.data.room import UNBOUNDED, Room


@dataclass(frozen=True, slots=True)
class RenderedAnswer:
    """A prompt and its answer; `answer` is what is kept of the whole one."""

    prompt: tuple[int, ...]
    answer_all: tuple[int, ...]
    pieces: Texts = field(repr=False, compare=False)
    max_length: int = UNBOUNDED
    first: int = 0
    """The first token of the prompt that is kept."""
    too_long: bool = False
    """Whether it is left out because of its length."""
    part: int = 0

    @property
    def prompt_kept(self) -> tuple[int, ...]:
        return self.prompt[self.first :][: self.max_length]

    @property
    def answer(self) -> tuple[int, ...]:
        return self.answer_all[: max(0, self.max_length - (len(self.prompt) - self.first))]

    @property
    def num_tokens(self) -> int:
        """Tokens that the model computes."""
        return len(self.prompt_kept) + len(self.answer)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence."""
        return self.num_tokens

    @property
    def num_trained(self) -> int:
        """Tokens of the answer."""
        return len(self.answer)

    @property
    def truncated(self) -> int:
        """Tokens that are cut away."""
        return len(self.prompt) + len(self.answer_all) - self.num_tokens

    @property
    def answers_cut(self) -> int:
        """Whether the answer lost tokens, as a number."""
        return int(self.answer != self.answer_all)

    @property
    def num_answers(self) -> int:
        return 1

    @property
    def usable(self) -> bool:
        """Whether anything of the answer is left."""
        return bool(self.answer)

    def spans(self) -> list[tuple[int, tuple[Span, ...]]]:
        """The tokens of the whole sequence and of the answer in it."""
        end = len(self.prompt) + len(self.answer_all)
        return [(end, ((len(self.prompt), end),))]

    def fit(self, room: Room) -> list[RenderedAnswer]:
        """The answer as it is trained: with its prompt it has at most `room.max_length` tokens; it is never split."""
        beyond = len(self.prompt) + len(self.answer_all) - room.max_length
        if room.truncation == "drop" and beyond > 0:
            return [replace(self, max_length=0, too_long=True)]
        if room.truncation == "cut_start" and beyond > 0:
            return [replace(self, max_length=room.max_length, first=min(beyond, len(self.prompt) - 1))]
        return [replace(self, max_length=room.max_length)]

    def columns(self, **judged: bool) -> TokenRow:
        """`prompt_ids`, `completion_ids` and what was judged."""
        ids = {"prompt_ids": list(self.prompt_kept), "completion_ids": list(self.answer)}
        return TokenRow({**ids, **judged}, self)

    def whole_columns(self, **judged: float) -> TokenRow:
        """`input_ids` of prompt and answer together, and what was judged."""
        return TokenRow({"input_ids": [*self.prompt_kept, *self.answer], **judged}, self)

    def view(self) -> list[dict[str, Any]]:
        """The sequence for the token view."""
        trained = (False,) * len(self.prompt) + (True,) * len(self.answer_all)
        whole: Sequence[int] = self.prompt + self.answer_all
        answers = ((len(self.prompt), len(trained)),)
        shown = Rendered(tuple(whole), trained, self.num_tokens, self.pieces, answers, first=self.first)
        return [sequence_view("row", shown)]
