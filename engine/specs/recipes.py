"""What a model is asked for when it drafts rows: the prompts and settings of each recipe."""

from __future__ import annotations

import re
from typing import ClassVar, Literal

from pydantic import model_validator

from engine.specs.base import EntrySpec, SpecError, setting
from engine.specs.problem import Problem, ProblemError, Where, problem
from engine.specs.prompts import wrong_names

LONGEST_PROMPT = 20_000
_WEIGHT = re.compile(r"\s*([^\d,]*[^\d,\s])\s+(\d+(?:\.\d+)?)\s*")


class RecipeSpec(EntrySpec):
    """The settings of a recipe."""

    takes: ClassVar[tuple[str, ...]]
    """The kinds of rows that it works on."""
    makes: ClassVar[str]
    """The kind of rows that it drafts."""

    def must_take(self, row_kind: str) -> None:
        """Refuse rows of a kind that it does not work on.

        Raises:
            ProblemError: they are of such a kind.
        """
        if row_kind not in self.takes:
            told = {"recipe": self.kind, "given": row_kind, "allowed": ", ".join(self.takes)}
            raise ProblemError([Problem("data_recipe_rows", Where("data.dataset"), told)])


class Questions(RecipeSpec):
    """Questions with their answers, from passages of documents."""

    takes = ("text",)
    makes = "conversation"
    kind: Literal["questions"] = "questions"
    prompt: str = setting(
        "Read the passage and write {count} questions that it answers, each with its answer. Use only what the passage "
        "says, in its language. A reader of the answer does not see the passage.\n"
        "Write nothing but lines of this form:\nQ: the question\nA: its answer\n\nPassage:\n{passage}",
        "Prompt",
        "What the model is told; {passage} and {count} are filled in. It must ask for lines that begin with Q: and A:.",
        max_length=LONGEST_PROMPT,
    )
    count: int = setting(3, "Questions per passage", "How many are asked for.", simple=True, ge=1, le=50)
    passage_characters: int = setting(
        2000,
        "Longest passage",
        "Documents are cut at the ends of paragraphs into passages of this length.",
        unit="characters",
        ge=200,
        le=100_000,
    )

    @model_validator(mode="after")
    def _prompt_has_names(self) -> Questions:
        _check(self.prompt, known=("passage", "count"), needed=("passage",))
        return self


class Rephrase(RecipeSpec):
    """Other ways to ask each row's question; its answer stays."""

    takes = ("conversation",)
    makes = "conversation"
    kind: Literal["rephrase"] = "rephrase"
    prompt: str = setting(
        "Write {count} other ways to ask the same, in the same language. Keep every name, number and condition.\n"
        "Write nothing but lines of this form:\nQ: the question\n\nThe question:\n{question}",
        "Prompt",
        "What the model is told; {question}, {answer} and {count} are filled in. It must ask for lines that begin "
        "with Q:.",
        max_length=LONGEST_PROMPT,
    )
    count: int = setting(2, "Ways per row", "How many are asked for.", simple=True, ge=1, le=50)

    @model_validator(mode="after")
    def _prompt_has_names(self) -> Rephrase:
        _check(self.prompt, known=("question", "answer", "count"), needed=("question",))
        return self


class Answers(RecipeSpec):
    """A new answer to each row's question; earlier turns of the row come before it."""

    takes = ("conversation",)
    makes = "conversation"
    kind: Literal["answers"] = "answers"
    system: str = setting(
        "",
        "System prompt",
        "What the model is told before each conversation; empty: the row's own.",
        max_length=LONGEST_PROMPT,
    )
    prompt: str = setting(
        "{question}",
        "Prompt",
        "What stands in place of the row's last question, for the model only; {question} and {answer} (the row's own) "
        "are filled in.",
        max_length=LONGEST_PROMPT,
    )

    @model_validator(mode="after")
    def _prompt_has_names(self) -> Answers:
        _check(self.prompt, known=("question", "answer"), needed=("question",))
        return self


class Judge(RecipeSpec):
    """Scores from 1 to 5 for each row's answer, put together by weight."""

    takes = ("conversation",)
    makes = "unpaired"
    kind: Literal["judge"] = "judge"
    prompt: str = setting(
        "Judge the answer to the question. Give whole points from 1 (bad) to 5 (very good) for each of: {dimensions}.\n"
        "Write nothing but one line for each, of this form:\nname: points\n\n"
        "Question:\n{question}\n\nAnswer:\n{answer}",
        "Prompt",
        "What the model is told; {question}, {answer} and {dimensions} are filled in. It must ask for lines of a name, "
        "a colon and points.",
        max_length=LONGEST_PROMPT,
    )
    dimensions: str = setting(
        "accuracy 2, relevance 1, fluency 1, conciseness 1",
        "Dimensions",
        "What is judged, each with its weight in the score, with commas between them.",
        simple=True,
        max_length=1000,
    )
    good_from: float = setting(
        4.0, "Good from", "A score from which on the answer is marked as good, for KTO.", ge=1.0, le=5.0
    )

    @model_validator(mode="after")
    def _prompt_has_names(self) -> Judge:
        weights = self.weights()
        if not weights or sum(weights.values()) <= 0:
            raise SpecError(problem("spec_dimensions", field="recipe.dimensions", given=self.dimensions))
        _check(self.prompt, known=("question", "answer", "dimensions"), needed=("question", "answer"))
        return self

    def weights(self) -> dict[str, float]:
        """Name → weight; empty where the text is none of `NAME WEIGHT, NAME WEIGHT` with different names."""
        found = [_WEIGHT.fullmatch(part) for part in self.dimensions.split(",")]
        weights = {one[1].strip(): float(one[2]) for one in found if one}
        return weights if len(weights) == len(found) else {}


def _check(prompt: str, *, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    wrong = wrong_names(prompt, "recipe.prompt", known=known, needed=needed)
    if wrong:
        raise SpecError(*wrong)


RECIPES: dict[str, type[RecipeSpec]] = {
    "questions": Questions,
    "rephrase": Rephrase,
    "answers": Answers,
    "judge": Judge,
}
"""Kind of a recipe → its settings; what it does is in `engine/data/drafting/`."""
DRAFTED_FROM = frozenset(kind for recipe in RECIPES.values() for kind in recipe.takes)
"""The kinds of rows that others can be drafted from."""
