"""Drafting rows with a model: one recipe a file."""

from __future__ import annotations

from engine.data.drafting.answers import Answers
from engine.data.drafting.judge import Judge
from engine.data.drafting.protocol import Recipe
from engine.data.drafting.questions import Questions
from engine.data.drafting.rephrase import Rephrase

RECIPES: dict[str, Recipe] = {
    "questions": Questions(),
    "rephrase": Rephrase(),
    "answers": Answers(),
    "judge": Judge(),
}
"""Kind of a recipe → what it does; its settings are in `engine/specs/recipes.py`."""
