"""Each shape is recognised, mapped and converted; each fault of a row has its name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.data.rows import kind_of
from engine.data.shape import shape_of
from engine.formats import FORMATS
from engine.formats.columns import SHARED, Columns, find_columns
from engine.formats.messages_of import BadRow

USER = {"role": "user", "content": "Q"}
ANSWER = {"role": "assistant", "content": "A"}
ROWS = {
    "messages": {"messages": [USER, ANSWER]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "prompt_completion": {"prompt": "Q", "completion": "A"},
    "preference": {"prompt": "Q", "chosen": "A", "rejected": "B"},
}


def all_rows(kind, raw, **mapping):
    shape = shape_of([(7, raw)], kind, mapping)
    return shape.convert(raw, 7)


def convert(kind, raw, **mapping):
    (row,) = all_rows(kind, raw, **mapping)
    return row


def codes(kind, raw, **mapping):
    entry = FORMATS[kind]
    columns = Columns({**find_columns([raw], {**entry.roles, **SHARED}), **mapping})
    with pytest.raises(BadRow) as caught:
        entry.convert(raw, columns)
    return [item.code for item in caught.value.problems]


def said(row, key="messages"):
    return [(message["role"], message["content"]) for message in row[key]]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_shape_is_recognised_as_itself_and_as_no_other(kind):
    scores = {name: entry.recognise([ROWS[kind]]).confidence for name, entry in FORMATS.items()}
    assert max(scores, key=lambda name: scores[name]) == kind


@pytest.mark.parametrize("kind", [kind for kind, entry in FORMATS.items() if entry.row_kind == "conversation"])
def test_each_conversation_shape_becomes_the_same_row(kind):
    assert said(convert(kind, ROWS[kind])) == [("user", "Q"), ("assistant", "A")]


@pytest.mark.parametrize("kind", FORMATS)
def test_required_roles_are_roles(kind):
    assert set(FORMATS[kind].required) <= set(FORMATS[kind].roles)


@pytest.mark.parametrize(
    "names", [("question", "answer"), ("input", "target"), ("Prompt", "Response"), ("query", "reply")]
)
def test_questions_and_answers_are_found_under_their_usual_names(names):
    raw = dict(zip(names, ("Q", "A"), strict=True))
    assert FORMATS["prompt_completion"].recognise([raw]).confidence > 0
    assert said(convert("prompt_completion", raw)) == [("user", "Q"), ("assistant", "A")]


def test_system_texts_come_first():
    for kind in ("sharegpt", "alpaca", "prompt_completion"):
        assert said(convert(kind, {**ROWS[kind], "system": "S"}))[0] == ("system", "S")
    assert said(convert("preference", {**ROWS["preference"], "system": "S"}), "prompt")[0] == ("system", "S")


def test_alpaca_joins_instruction_and_input_and_puts_the_history_first():
    raw = {"instruction": "Do", "input": "this", "output": "A", "history": [["q", "a"]]}
    assert said(convert("alpaca", raw)) == [
        ("user", "q"),
        ("assistant", "a"),
        ("user", "Do\n\nthis"),
        ("assistant", "A"),
    ]


def test_the_split_column_holds_rows_out():
    assert convert("messages", {**ROWS["messages"], "split": "Test"})["split"] == "test"
    assert convert("messages", {**ROWS["messages"], "split": "train"})["split"] == "train"
    assert convert("messages", {**ROWS["messages"], "split": "dev"})["split"] is None
    assert convert("messages", ROWS["messages"])["split"] is None


def test_a_message_can_be_taken_out_of_training():
    for flag in ({"train": False}, {"weight": 0}):
        row = convert("messages", {"messages": [USER, {**ANSWER, **flag}]})
        assert row["messages"][1]["train"] is False
    assert codes("messages", {"messages": [USER, {**ANSWER, "weight": 0.5}]}) == ["row_bad_train_flag"]
    assert codes("messages", {"messages": [USER, {**ANSWER, "train": "yes"}]}) == ["row_bad_train_flag"]


def test_text_parts_are_joined_and_other_parts_are_named():
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert said(convert("messages", {"messages": [{**USER, "content": parts}, ANSWER]}))[0] == ("user", "ab")
    image = [{"type": "image_url", "image_url": {"url": "x"}}]
    assert codes("messages", {"messages": [{**USER, "content": image}, ANSWER]}) == ["row_part_not_text"]


def test_messages_in_a_table_cell_are_read_as_json():
    cell = '[{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]'
    assert said(convert("messages", {"messages": cell})) == [("user", "Q"), ("assistant", "A")]
    assert codes("messages", {"messages": "[{broken"}) == ["row_bad_cell_json"]


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        ([USER], "row_no_answer"),
        ([], "row_no_answer"),
        ([{"role": "system", "content": "S"}], "row_no_answer"),
        ([USER, {**ANSWER, "content": ""}], "row_empty_answer"),
        ([USER, {**ANSWER, "content": None}], "row_empty_answer"),
        ([USER, {**ANSWER, "content": " \n"}], "row_empty_answer"),
        ([{**USER, "content": ""}, ANSWER], "row_empty_question"),
        ([ANSWER], "row_starts_with_answer"),
        ([USER, USER, ANSWER], "row_same_role_twice"),
        ([USER, ANSWER, ANSWER], "row_same_role_twice"),
        ([USER, {"role": "system", "content": "S"}, ANSWER], "row_system_not_first"),
        ([USER, {"role": "tool", "content": "T"}], "row_unknown_role"),
        ([USER, {"role": 3, "content": "T"}], "row_unknown_role"),
        ([USER, {"role": "assistant", "tool_calls": [{"id": 1}]}], "row_tool_call"),
        ([USER, {**ANSWER, "content": 5}], "row_not_text"),
        ([USER, {**ANSWER, "content": "a\0"}], "row_nul"),
        ([USER, {**ANSWER, "content": "a\U000f0000"}], "row_private_marker"),
        ([USER, {**ANSWER, "content": "a\ud800"}], "row_half_character"),
        ([USER, {**ANSWER, "content": "a" * 4_000_001}], "row_too_long"),
        ("text", "row_not_messages"),
        ({"role": "user"}, "row_not_messages"),
        ([["user", "Q"]], "row_not_messages"),
        (None, "row_missing_field"),
        (7, "row_not_messages"),
    ],
)
def test_what_is_wrong_with_a_conversation_has_a_name(messages, code):
    assert codes("messages", {"messages": messages}) == [code]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"rejected": "A"}, "row_same_answers"),
        ({"rejected": ""}, "row_empty_answer"),
        ({"rejected": None}, "row_empty_answer"),
        ({"chosen": 3}, "row_not_text"),
        ({"prompt": None}, "row_no_prompt"),
        ({"prompt": [USER, ANSWER]}, "row_same_role_twice"),
        ({"chosen": [USER, ANSWER], "rejected": [{**USER, "content": "other"}, ANSWER]}, "row_prompts_differ"),
        ({"chosen": [USER]}, "row_no_answer"),
    ],
)
def test_what_is_wrong_with_a_pair_has_a_name(changes, code):
    assert codes("preference", {**ROWS["preference"], **changes}) == [code]


def test_a_missing_side_of_a_pair_is_named():
    assert codes("preference", {"prompt": "Q", "chosen": "A"}, rejected="rejected") == ["row_missing_field"]


def test_a_pair_may_repeat_its_prompt_in_both_answers():
    both = {"chosen": [USER, ANSWER], "rejected": [USER, {**ANSWER, "content": "B"}]}
    for raw in (both, {**both, "prompt": "Q"}):
        row = convert("preference", raw)
        assert (said(row, "prompt"), said(row, "chosen"), said(row, "rejected")) == (
            [("user", "Q")],
            [("assistant", "A")],
            [("assistant", "B")],
        )


def test_numbers_are_never_turned_into_text():
    assert codes("prompt_completion", {"prompt": "Q", "completion": 4}) == ["row_not_text"]
    assert codes("alpaca", {"instruction": True, "output": "A"}) == ["row_not_text"]
    assert codes("sharegpt", {"conversations": [{"from": "human", "value": 1}]}) == ["row_not_text"]


def test_unknown_speakers_and_broken_histories_are_named():
    assert codes("sharegpt", {"conversations": [{"from": "tool", "value": "x"}]}) == ["row_unknown_role"]
    assert codes("alpaca", {**ROWS["alpaca"], "history": ["a"]}) == ["row_bad_history"]
    assert codes("alpaca", {"instruction": "Q"}, output="output") == ["row_missing_field"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["role", "content", "from", "value", "type", "text", "train", "weight"]), inner, max_size=4
        )
    ),
    max_leaves=10,
)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_no_row_whatever_its_values_makes_a_format_fail(data):
    kind = data.draw(st.sampled_from(list(FORMATS)))
    entry = FORMATS[kind]
    names = [names[0] for names in entry.roles.values()]
    raw = data.draw(st.dictionaries(st.sampled_from(names), anything))
    entry.recognise([raw])
    try:
        rows = entry.convert(raw, Columns({role: names[0] for role, names in entry.roles.items()}, entry.options))
    except BadRow as error:
        assert error.problems
    else:
        assert rows and all(kind_of(row) == entry.row_kind for row in rows)
