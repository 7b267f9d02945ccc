"""One judged answer as tokens: what is trained, what is cut, and what is left out with a reason."""

from __future__ import annotations

import pytest

from engine.data.render import Renderer
from engine.data.room import Room
from engine.data.rows import RowWriter
from engine.data.token_lengths import measure
from engine.data.tokens import prepare, view
from engine.models.loading import load_tokenizer
from engine.objectives import OBJECTIVES
from engine.specs.job import parse
from engine.specs.problem import ProblemError

KTO, REWARD = OBJECTIVES["kto"].Spec(), OBJECTIVES["reward"].Spec()
PROMPT = [{"role": "user", "content": "Please tell me which of the two words is last: first or last?"}]
ANSWER = [{"role": "assistant", "content": "The word is last."}]


def row(**judged):
    return {"prompt": PROMPT, "completion": ANSWER, "label": True, "score": 3.5, **judged}


@pytest.fixture(scope="module")
def renderer(starter):
    return Renderer(load_tokenizer(starter))


def text(renderer, ids):
    return "".join(renderer.texts(ids))


def test_the_answer_ends_with_its_turn_and_equals_that_of_a_pair(renderer):
    one = renderer.answer(PROMPT, ANSWER)
    pair = renderer.preference(PROMPT, ANSWER, [{"role": "assistant", "content": "No."}])
    assert (one.prompt, one.answer) == (pair.prompt, pair.chosen)
    assert text(renderer, one.answer) == "The word is last.<|im_end|>"
    columns = one.columns(label=False)
    assert columns == {"prompt_ids": list(one.prompt), "completion_ids": list(one.answer), "label": False}
    assert one.whole_columns(score=2.0) == {"input_ids": [*one.prompt, *one.answer], "score": 2.0}


def test_what_is_cut_is_counted_and_the_view_shows_what_the_trainer_gets(renderer):
    one = renderer.answer(PROMPT, ANSWER)
    length = one.num_tokens
    (cut,) = one.fit(Room(length - 2, "cut_end"))
    assert (cut.truncated, cut.answers_cut, cut.num_trained, cut.longest) == (2, 1, len(one.answer) - 2, length - 2)
    (shown,) = cut.view()
    kept = [token["id"] for token in shown["tokens"] if token["state"] != "cut"]
    assert kept == cut.whole_columns()["input_ids"]
    assert [token["id"] for token in shown["tokens"] if token["trained"]] == cut.columns()["completion_ids"]
    assert one.fit(Room(length, "cut_end"))[0].truncated == 0


def test_where_the_start_is_cut_the_answer_stays(renderer):
    one = renderer.answer(PROMPT, ANSWER)
    (cut,) = one.fit(Room(len(one.answer) + 4, "cut_start"))
    assert cut.answer == one.answer_all and cut.prompt_kept == one.prompt[-4:] and cut.answers_cut == 0
    (longer,) = one.fit(Room(3, "cut_start"))
    assert len(longer.prompt_kept) == 1 and len(longer.answer) == 2


@pytest.mark.parametrize(
    ("room", "why"), [(Room(16, "auto"), "nothing_trained"), (Room(16, "drop"), "too_long"), (Room(200, "drop"), None)]
)
@pytest.mark.parametrize("objective", [KTO, REWARD], ids=["kto", "reward"])
def test_a_row_of_whose_answer_nothing_is_left_is_left_out_with_a_reason(renderer, objective, room, why):
    assert view(row(), renderer, objective, room)["left_out"] == why


@pytest.mark.parametrize("objective", [KTO, REWARD], ids=["kto", "reward"])
def test_an_answer_is_never_split(renderer, objective):
    with pytest.raises(ProblemError) as caught:
        view(row(), renderer, objective, Room(20, "split"))
    (problem,) = caught.value.problems
    assert (problem.code, problem.values["objective"]) == ("objective_cannot_split", objective.kind)


def stored(folder, rows):
    with RowWriter(folder / "rows.parquet", "unpaired") as writer:
        for one in rows:
            writer.add(one)
    (folder / writer.sha256).mkdir()
    return (folder / "rows.parquet").rename(folder / writer.sha256 / "rows.parquet")


def test_the_run_card_counts_judged_rows_and_those_without_a_judgement(renderer, tmp_path):
    rows = [row(label=number % 2 == 0, completion=[{**ANSWER[0], "content": f"{number}"}]) for number in range(6)]
    path = stored(tmp_path, [*rows, row(label=None), row(label=None, score=None)])
    spec = parse(
        {
            "data": {"dataset": "judged", "max_length": 64, "eval_fraction": 0.0}, "objective": {"kind": "kto"},
            "tuner": {"kind": "lora"}, "training": {"learning_rate": 1e-5},
        }
    )  # fmt: skip
    made = prepare(path, renderer, spec, tmp_path / "tokens")
    assert made.counts["train_rows"] == 6 and made.counts["left_out"] == {"row_no_label": 2}
    assert made.counts["answers"] == 6 and 0 < made.counts["trained_tokens"] < made.counts["total_tokens"]
    found = measure(path, renderer, KTO, tmp_path, seen=lambda: None)
    assert found.cut(Room(20, "cut_start"))["affected"] == 0, "the prompt gives way first"
