"""Canonical rows in a few words."""

from __future__ import annotations

import random

# fmt: off
WORDS = [
    "river", "stone", "yellow", "carry", "window", "early", "paper", "seven", "garden", "engine", "copper",
    "letter", "morning", "travel", "silver", "number", "island", "winter", "button", "reason", "market", "single",
    "bridge", "answer", "pocket", "corner", "summer", "signal", "castle", "leader", "moment", "planet", "record",
    "minute", "flower", "desert", "butter", "circle", "danger", "effect", "finger", "ground", "handle", "insect",
    "jacket", "kitten",
]
# fmt: on


def say(role, content, calls=None):
    return {"role": role, "content": content, "tool_calls": calls}


def row(prompt, answer, *, system=None, **shared):
    turns = [say("system", system)] if system else []
    return {"messages": [*turns, say("user", prompt), say("assistant", answer)], **shared}


def pair(prompt, chosen, rejected, **shared):
    sides = {"chosen": [say("assistant", chosen)], "rejected": [say("assistant", rejected)]}
    return {"prompt": [say("user", prompt)], **sides, **shared}


def judged(prompt, completion, label, **shared):
    return {"prompt": [say("user", prompt)], "completion": [say("assistant", completion)], "label": label, **shared}


def prose(seed, words=40):
    """A text of its own for each seed."""
    draw = random.Random(seed)
    return " ".join(draw.choice(WORDS) for _ in range(words))


def varied(count, **shared):
    """Rows in which nothing is wrong."""
    return [row(f"Tell me about {prose(2 * i, 12)}", prose(2 * i + 1), **shared) for i in range(count)]
