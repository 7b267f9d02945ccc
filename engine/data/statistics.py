"""What a person wants to know of a dataset's rows before any model is chosen, counted as the rows pass."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from typing import Any

from engine.data.rows import TEST, Row, fingerprint
from engine.specs.problem import Problem, problem

CONTROL_TEXT = re.compile(r"<\|[^|<>\s]{1,40}\|>|</?s>|\[/?INST\]|<(?:start|end)_of_turn>|</?think>")
INVISIBLE = re.compile(
    "[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]"
)
FEW_ROWS = 20


class Statistics:
    """Counts over canonical rows of one kind."""

    def __init__(self) -> None:
        self._prompts = array("Q")
        self._answers = array("Q")
        self._turns = array("Q")
        self._splits: Counter[str] = Counter()
        self._seen: dict[bytes, bool] = {}
        self._duplicates = 0
        self._held_out_known: set[bytes] = set()
        self._with_control = 0
        self._with_invisible = 0

    def add(self, row: Row) -> None:
        """Count a row in."""
        prompts, answers = _texts(row)
        self._prompts.append(sum(map(len, prompts)))
        self._answers.extend(map(len, answers))
        self._turns.append(len(prompts) + len(answers))
        self._with_control += any(CONTROL_TEXT.search(text) for text in (*prompts, *answers))
        self._with_invisible += any(INVISIBLE.search(text) for text in (*prompts, *answers))
        held_out = row["split"] == TEST
        self._splits["test" if held_out else "train"] += 1
        self._compare(fingerprint(row), held_out)

    def _compare(self, mark: bytes, held_out: bool) -> None:
        known = self._seen.get(mark)
        if known is None:
            self._seen[mark] = held_out
            return
        self._duplicates += 1
        if known is not held_out:
            self._held_out_known.add(mark)

    def as_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "turns": spread(self._turns),
            "prompt_characters": spread(self._prompts),
            "answer_characters": spread(self._answers),
            "duplicates": self._duplicates,
            "splits": {"train": self._splits["train"], "test": self._splits["test"]},
            "rows_with_control_tokens": self._with_control,
            "rows_with_invisible_characters": self._with_invisible,
        }

    def warnings(self) -> list[Problem]:
        """What a person should know, though every row is usable."""
        rows = len(self._turns)
        counted = (
            ("duplicates", self._duplicates),
            ("held_out_in_training", len(self._held_out_known)),
            ("control_tokens_as_text", self._with_control),
            ("invisible_characters", self._with_invisible),
        )
        found = [problem(code, rows=count) for code, count in counted if count]
        return [problem("few_rows", rows=rows), *found] if 0 < rows < FEW_ROWS else found


def spread(values: array[int]) -> dict[str, int]:
    """Median, 95th percentile and largest of some counts."""
    if not values:
        return {"median": 0, "p95": 0, "max": 0}
    ordered = sorted(values)
    last = len(ordered) - 1
    return {"median": ordered[last // 2], "p95": ordered[round(last * 0.95)], "max": ordered[last]}


def _texts(row: Row) -> tuple[list[str], list[str]]:
    """What the model is given and what it is to answer."""
    if "text" in row:
        return [], [row["text"]]
    if "messages" in row:
        given = [item["content"] for item in row["messages"] if item["role"] != "assistant"]
        return given, [item["content"] for item in row["messages"] if item["role"] == "assistant"]
    sides = row["completion"] if "completion" in row else (*row["chosen"], *row["rejected"])
    return [item["content"] for item in row["prompt"]], [item["content"] for item in sides]
