"""What an export is compared on is counted by where it comes from; too little is refused."""

from __future__ import annotations

import pytest

from engine.data.render import Renderer
from engine.models.loading import load_tokenizer
from engine.runtime import held_out
from engine.specs.job import parse
from engine.specs.problem import ProblemError
from storage import datasets

SPEC = parse(
    {
        "data": {"dataset": "rows", "max_length": 256, "eval_fraction": 0.0},
        "objective": {"kind": "sft"},
        "tuner": {"kind": "lora"},
        "training": {"learning_rate": 2e-4},
    }
)


@pytest.fixture(scope="module")
def renderer(tiny_model) -> Renderer:
    return Renderer(load_tokenizer(tiny_model))


def answers(studio, renderer: Renderer, words: dict[str, int]) -> held_out.Answers:
    """Rows of ten words each, so and so many for each split."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"{split} {place}", "train": None},
                {"role": "assistant", "content": " one" * 10, "train": None},
            ],
            "split": split,
        }
        for split, count in words.items()
        for place in range(count)
    ]
    studio.add_rows("rows", rows)
    with studio.store.read() as session:
        version = datasets.get(session, "rows")
    return held_out.answers(version, SPEC, renderer, wanted=500)


def test_enough_held_out_answers_need_no_word(studio, renderer):
    found = answers(studio, renderer, {"test": 60, "train": 60})
    assert set(found.sources) == {"held_out"} and sum(found.sources.values()) >= 500
    assert held_out.caution(found.sources) is None


@pytest.mark.parametrize("words", [{"test": 10, "train": 60}, {"test": 10, "train": 5}, {"train": 60}])
def test_few_are_filled_up_and_said_with_their_origins(studio, renderer, words):
    found = answers(studio, renderer, words)
    said = held_out.caution(found.sources)
    assert said is not None and said.values["training"] == found.sources["training"] > 0
    assert said.values["total"] == sum(row.num_answer_tokens for row in found.rows)
    assert said.values["held_out"] == found.sources.get("held_out", 0) < said.values["least"] == 500


def test_what_tells_nothing_is_refused(studio, renderer):
    with pytest.raises(ProblemError, match="data_too_few_answers"):
        answers(studio, renderer, {"test": 2, "train": 1})
