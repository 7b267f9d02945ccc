"""A prompt that a model answers itself in training, and the row's own answer where that is trained on too."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from engine.data.rendered import Rendered, Span, Texts, TokenRow, sequence_view
from engine.data.room import UNBOUNDED, Room
from engine.specs.problem import ProblemError, problem


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """The ids that a model is given, and those of the row's answer. An answer is never part of an online row."""

    prompt: tuple[int, ...]
    answer_all: tuple[int, ...]
    pieces: Texts = field(repr=False, compare=False)
    drawn: int = 0
    """Tokens that are kept free for an answer of the model's own."""
    max_length: int = UNBOUNDED
    first: int = 0
    """The first token of the prompt that is kept."""
    too_long: bool = False
    """Whether it is left out because of its length."""
    unanswered: bool = False
    """Whether an answer was to be learned from, and the row has none."""
    part: int = 0

    @property
    def answer(self) -> tuple[int, ...]:
        """What is kept of the row's answer."""
        return self.answer_all[: max(0, self.max_length - len(self.asked))]

    @property
    def asked(self) -> tuple[int, ...]:
        """What is kept of the prompt."""
        return self.prompt[self.first :]

    @property
    def num_tokens(self) -> int:
        """Tokens of prompt and answer; those that the model will draw are not known."""
        return len(self.asked) + len(self.answer)

    @property
    def longest(self) -> int:
        """Tokens of the longest sequence that can become of it."""
        return len(self.asked) + max(self.drawn, len(self.answer))

    @property
    def num_trained(self) -> int:
        return len(self.answer)

    @property
    def truncated(self) -> int:
        """Tokens that are cut away."""
        return self.first + len(self.answer_all) - len(self.answer)

    @property
    def answers_cut(self) -> int:
        return int(self.answer != self.answer_all)

    @property
    def num_answers(self) -> int:
        return int(bool(self.answer_all))

    @property
    def usable(self) -> bool:
        """Whether there is something to answer, and to learn from it."""
        if self.too_long or self.unanswered:
            return False
        return bool(self.asked) and (bool(self.answer) or not self.answer_all)

    def spans(self) -> list[tuple[int, tuple[Span, ...]]]:
        """The tokens of the whole sequence and of its answer."""
        end = len(self.prompt) + len(self.answer_all)
        return [(end, ((len(self.prompt), end),) if self.answer_all else ())]

    def fit(self, room: Room) -> list[RenderedPrompt]:
        """The prompt as it is given: with its answer, or one that the model draws, it has at most `room.max_length`.

        Raises:
            ProblemError: `row_cannot_split`, a prompt is one whole.
        """
        if room.truncation == "split":
            raise ProblemError([problem("row_cannot_split", field="data.truncation")])
        beyond = len(self.prompt) + self.drawn - room.max_length
        with_answer = len(self.prompt) + len(self.answer_all) - room.max_length
        fitted = replace(self, max_length=room.max_length)
        if room.truncation == "cut_start":
            return [replace(fitted, first=min(max(0, beyond, with_answer), len(self.prompt) - 1))]
        if beyond > 0 or (room.truncation == "drop" and with_answer > 0):
            return [replace(fitted, too_long=True)]
        return [fitted]

    def columns(self, **more: Any) -> TokenRow:
        """`prompt`, `answer` where there is one, and whatever else the objective keeps of the row."""
        own = {"prompt": list(self.asked), **({"answer": list(self.answer)} if self.answer_all else {})}
        return TokenRow({**own, **more}, self)

    def view(self) -> list[dict[str, Any]]:
        """The sequence for the token view."""
        return [sequence_view("row", self._whole())]

    def _whole(self) -> Rendered:
        ids = self.prompt + self.answer_all
        trained = (False,) * len(self.prompt) + (True,) * len(self.answer_all)
        kept = 0 if self.too_long else self.num_tokens
        return Rendered(ids, trained, kept, self.pieces, self.spans()[0][1], first=self.first)
