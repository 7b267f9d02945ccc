"""Recipes: which requests a version's rows become, and which rows a reply becomes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.data.drafting import RECIPES
from engine.data.drafting.labelled import pairs
from engine.data.drafting.passages import passages
from engine.data.drafting.protocol import BadReply, Reply, without_thoughts
from engine.data.rows import batch_of
from engine.specs.base import validate
from engine.specs.problem import ProblemError
from engine.specs.recipes import RECIPES as SPECS
from tests.data.doctor.making import row, say


def units(kind, rows, **settings):
    spec = validate(SPECS[kind], {"kind": kind, **settings}, at="recipe")
    return list(RECIPES[kind].units(rows, spec)), spec


def read(kind, unit, spec, text, **more):
    return RECIPES[kind].read(Reply(text, **more), unit, spec)


def test_every_recipe_has_its_settings_and_the_other_way_round():
    assert list(RECIPES) == list(SPECS)


@given(st.text(max_size=2000), st.integers(1, 200))
def test_passages_are_short_enough_and_lose_only_white_space(text, longest):
    found = list(passages(text, longest))
    assert all(0 < len(one) <= longest for one in found)
    assert "".join("".join(found).split()) == "".join(text.split())


def test_passages_end_where_paragraphs_do():
    text = "One one.\n\nTwo two.\n\n" + "Long. " * 20 + "\n\nEnd."
    found = list(passages(text, 40))
    assert found[0] == "One one.\n\nTwo two."
    assert found[1].startswith("Long.") and found[1].endswith("Long.") and found[-1].endswith("End.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Q: Why?\nA: Because.", [("Why?", "Because.")]),
        (
            "Here you are:\n\n1. **Q:** Why?\n   **A:** So.\n\n2. **Q:** How?\n   **A:** Thus.",
            [("Why?", "So."), ("How?", "Thus.")],
        ),
        ("Question 1: Why?\nAnswer 1: First line.\nSecond: line.", [("Why?", "First line.\nSecond: line.")]),
        ("问：为什么？\n答：因为。", [("为什么？", "因为。")]),
        ("Q: no answer\nQ: Why?\nA: One of:\nA: red\nB: blue", [("Why?", "One of:\nA: red\nB: blue")]),
        ("**Q1: Why?**\n**A1:** **So** it is.", [("Why?", "**So** it is.")]),
        ("Q: \nA: nothing asked", []),
        ("I cannot do that.", []),
        ("", []),
    ],
)
def test_questions_and_answers_are_found_in_a_reply(text, expected):
    assert pairs(text) == expected


def test_documents_become_passages_and_replies_rows():
    rows = [{"text": "Alpha. " * 40, "split": "test"}, {"text": "Beta.", "group": "b"}]
    found, spec = units("questions", rows, passage_characters=200, count=2)
    assert [one.number for one in found] == list(range(len(found))) and found[-1].row_number == 1
    assert found[-1].shown == "Beta." and found[-1].messages[0]["content"].endswith("Passage:\nBeta.")
    assert "write 2 questions" in found[0].messages[0]["content"]
    text = "Q: One?\nA: 1.\nQ: One?\nA: 1.\nQ: Two?\nA: 2.\nQ: Three?\nA: 3."
    made = read("questions", found[0], spec, text)
    assert [one["messages"][0]["content"] for one in made] == ["One?", "Two?"]
    assert {one["origin"] for one in made} == {"generated"} and {one["split"] for one in made} == {"test"}
    assert len({one["group"] for one in made}) == 1
    assert read("questions", found[-1], spec, text)[0]["group"] == "b"
    batch_of(made, "conversation")


def test_names_in_braces_in_a_document_are_not_filled_in():
    found, _ = units("questions", [{"text": "Say {count} and {passage}."}], prompt="{passage}")
    assert found[0].messages[0]["content"] == "Say {count} and {passage}."


def test_of_a_reply_that_was_cut_only_whole_pairs_are_taken():
    found, spec = units("questions", [{"text": "Beta."}])
    assert len(read("questions", found[0], spec, "Q: a\nA: b\nQ: c\nA: d", is_cut=True)) == 1
    with pytest.raises(BadReply, match="draft_cut"):
        read("questions", found[0], spec, "Q: a\nA: b", is_cut=True)


def test_a_question_is_asked_in_other_words_and_its_answer_stays():
    source = row("What is it?", "A stone.", system="Be brief.", task_type="naming")
    source["messages"][1:1] = [say("user", "Hello"), say("assistant", "Hi")]
    found, spec = units("rephrase", [source], count=2)
    made = read("rephrase", found[0], spec, "Q: What is it?\nQ: What may it be?\nQ: Name it.\nQ: And?")
    assert [[turn["content"] for turn in one["messages"]] for one in made] == [
        ["Be brief.", "Hello", "Hi", "What may it be?", "A stone."],
        ["Be brief.", "Hello", "Hi", "Name it.", "A stone."],
    ]
    assert made[0]["task_type"] == "naming"
    with pytest.raises(BadReply, match="draft_no_questions"):
        read("rephrase", found[0], spec, "What may it be?")


def test_what_was_said_before_the_question_is_shown_and_judged():
    source = row("What is he called?", "Rex.", system="Be brief.")
    source["messages"][1:1] = [say("user", "My dog is called Rex."), say("assistant", "Nice.")]
    for kind in ("rephrase", "answers", "judge"):
        found, _ = units(kind, [source])
        assert "My dog is called Rex." in found[0].shown and "Be brief." in found[0].shown
    assert "My dog is called Rex." in found[0].messages[0]["content"]


def test_what_a_model_thought_first_is_no_part_of_its_reply():
    assert without_thoughts(Reply("<think>Hm.\nA: x</think>\n\nYes.", tokens_out=9)) == Reply("Yes.", tokens_out=9)
    assert without_thoughts(Reply("<think>Hm", is_cut=True)).text == ""
    assert without_thoughts(Reply("Say <think>.")).text == "Say <think>."


def test_a_new_answer_takes_the_place_of_the_old_one():
    source = row("What is it?", "A stone.", system="Be brief.")
    found, spec = units("answers", [source], system="Be kind.", prompt="{question} (not: {answer})")
    assert found[0].messages == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "What is it? (not: A stone.)"},
    ]
    made = read("answers", found[0], spec, " A pebble.\n")[0]
    assert [turn["content"] for turn in made["messages"]] == ["Be brief.", "What is it?", "A pebble."]
    for text, more, code in (("", {}, "draft_empty"), ("A peb", {"is_cut": True}, "draft_cut")):
        with pytest.raises(BadReply, match=code):
            read("answers", found[0], spec, text, **more)


def test_rows_without_a_question_are_passed_over():
    rows = [row("What is it?", "A stone."), {"messages": [say("assistant", "Hello")]}, row(" ", "Nothing asked")]
    for kind in ("rephrase", "answers", "judge"):
        found, _ = units(kind, rows)
        assert [one is None for one in found] == [False, True, True]
        assert found[0].number == 0


def test_an_answer_is_judged_by_weight():
    found, spec = units("judge", [row("What is it?", "A stone.")], dimensions="accuracy 3, plain words 1", good_from=4)
    assert "accuracy, plain words" in found[0].messages[0]["content"]
    made = read("judge", found[0], spec, "**Accuracy**: 5/5\n- Plain words: 1\n")[0]
    assert made["score"] == 4.0 and made["label"] is True
    assert [turn["content"] for turn in (*made["prompt"], *made["completion"])] == ["What is it?", "A stone."]
    batch_of([made], "unpaired")
    told = read("judge", found[0], spec, "accuracy (1-5): 4 points\nplain words: 4 - because")[0]
    assert told["score"] == 4.0
    with pytest.raises(BadReply) as raised:
        read("judge", found[0], spec, "accuracy: 4.5\nplain words: 4/10")
    assert raised.value.problem.values["names"] == "accuracy, plain words"


@pytest.mark.parametrize(
    ("kind", "settings", "code"),
    [
        ("questions", {"prompt": "Ask something."}, "spec_prompt_lacks"),
        ("questions", {"prompt": "{passage} {pasage}"}, "spec_prompt_name"),
        ("answers", {"prompt": "Hello"}, "spec_prompt_lacks"),
        ("judge", {"prompt": "{question}"}, "spec_prompt_lacks"),
        ("judge", {"dimensions": "accuracy, tone"}, "spec_dimensions"),
        ("judge", {"dimensions": "accuracy 0"}, "spec_dimensions"),
        ("judge", {"dimensions": "accuracy 2, accuracy 3"}, "spec_dimensions"),
        ("questions", {"count": 0}, "spec_too_small"),
    ],
)
def test_settings_that_cannot_work_are_refused(kind, settings, code):
    with pytest.raises(ProblemError) as raised:
        units(kind, [], **settings)
    assert [one.code for one in raised.value.problems] == [code]
