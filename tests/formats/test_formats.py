"""Each shape is recognised, mapped and converted; each fault of a row has its name."""

from __future__ import annotations

import json

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
CALL = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"x": [1, 2]}'}}
ADD = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}}


def calling(*calls):
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


ROWS = {
    "messages": {"messages": [USER, ANSWER]},
    "sharegpt": {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]},
    "alpaca": {"instruction": "Q", "input": "", "output": "A"},
    "prompt_completion": {"prompt": "Q", "completion": "A"},
    "preference": {"prompt": "Q", "chosen": "A", "rejected": "B"},
    "rankings": {"prompt": "Q", "responses": ["A", "B"], "rank": [1, 2]},
    "scored": {"prompt": "Q", "responses": ["A", "B"], "scores": [5, 3.5]},
    "kto": {"prompt": "Q", "completion": "A", "label": True},
    "classification": {"text": "Q", "label": "A"},
    "entities": {"entity": "Q", "facts": ["A", "B"]},
    "text": {"text": "A"},
}
ALSO = {
    "messages in another column": ("messages", {"conversations": [USER, ANSWER]}),
    "messages with tools": ("messages", {"messages": [USER, ANSWER], "tools": []}),
    "messages as JSON": ("messages", {"messages": json.dumps([USER, ANSWER])}),
    "speakers by role": (
        "sharegpt",
        {"messages": [{"role": "human", "content": "Q"}, {"role": "gpt", "content": "A"}]},
    ),
    "user and text": ("sharegpt", {"conversations": [{"user": "human", "text": "Q"}, {"user": "gpt", "text": "A"}]}),
    "pairs": ("sharegpt", {"conversation": [{"human": "Q", "assistant": "A"}]}),
    "transcripts": (
        "preference",
        {"chosen": "\n\nHuman: Q\n\nAssistant: A", "rejected": "\n\nHuman: Q\n\nAssistant: B"},
    ),
    "conversations with sides": (
        "preference",
        {
            "conversations": [{"from": "human", "value": "Q"}],
            "chosen": {"from": "gpt", "value": "A"},
            "rejected": {"from": "gpt", "value": "B"},
        },
    ),
    "answers with ranks": (
        "rankings",
        {"prompt": "Q", "answers": [{"answer": "A", "rank": 1}, {"answer": "B", "rank": 2}]},
    ),
    "completions with scores": (
        "scored",
        {
            "instruction": "Q",
            "completions": [{"response": "A", "overall_score": 4}, {"response": "B", "overall_score": 1}],
        },
    ),
    "judged conversation": ("kto", {"messages": [USER, ANSWER], "label": False}),
    "judged instruction": ("kto", {"instruction": "Q", "output": "A", "kto_tag": True}),
    "judged in a table": ("kto", {"prompt": "Q", "completion": "A", "label": "false"}),
    "one answer with a score": ("prompt_completion", {"question": "Q", "answer": "A", "score": 3}),
    "several answers": ("prompt_completion", {"question": "Q", "answers": ["A", "B"]}),
    "numbered labels": ("classification", {"sentence": "Q", "label": 1}),
    "documents": ("text", {"content": "A", "title": "T"}),
}


def all_rows(kind, raw, options=None, **mapping):
    shape = shape_of([(7, raw)], kind, mapping, options)
    return shape.convert(raw, 7)


def convert(kind, raw, options=None, **mapping):
    (row,) = all_rows(kind, raw, options, **mapping)
    return row


def codes(kind, raw, options=None, **mapping):
    entry = FORMATS[kind]
    found = {**find_columns([raw], {**entry.roles, **SHARED}), **mapping}
    columns = Columns(found, {**entry.options, **(options or {})})
    with pytest.raises(BadRow) as caught:
        entry.convert(raw, columns)
    return [item.code for item in caught.value.problems]


def said(row, key="messages"):
    return [(message["role"], message["content"]) for message in row[key]]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_shape_is_recognised_as_itself_and_as_no_other(kind):
    scores = {name: entry.recognise([ROWS[kind]]).confidence for name, entry in FORMATS.items()}
    assert [name for name, score in scores.items() if score == max(scores.values())] == [kind]


@pytest.mark.parametrize(("kind", "raw"), ALSO.values(), ids=ALSO)
def test_the_ways_in_which_a_shape_is_written_are_recognised(kind, raw):
    shape = shape_of([(1, raw)], None, {})
    assert shape.kind == kind and shape.recognised.reasons
    if kind != "classification":  # whose numbers need names
        assert shape.convert(raw, 1)


@pytest.mark.parametrize("kind", ["messages", "sharegpt", "alpaca", "prompt_completion"])
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
    with pytest.raises(BadRow) as caught:
        convert("messages", {"messages": [{**USER, "content": image}, ANSWER]})
    assert dict(caught.value.problems[0].values) == {"given": "image"}


def test_images_beside_the_texts_are_refused_and_empty_columns_of_them_are_not():
    with pytest.raises(BadRow) as caught:
        convert("messages", {**ROWS["messages"], "images": ["a.png"]})
    assert caught.value.problems[0].code == "row_not_only_text" and caught.value.problems[0].where.field == "images"
    assert convert("messages", {**ROWS["messages"], "images": [], "audio": None})


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
        ([USER, {"role": "critic", "content": "T"}], "row_unknown_role"),
        ([USER, {"role": 3, "content": "T"}], "row_unknown_role"),
        ([USER, {"role": ["user"], "content": "T"}], "row_unknown_role"),
        ([USER, {"role": "tool", "content": "T"}, ANSWER], "row_tool_without_call"),
        ([USER, ANSWER, {"role": "tool", "content": "T"}], "row_tool_without_call"),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "row_call_of_another"),
        ([USER, calling({"id": "1"})], "row_bad_tool_call"),
        ([USER, calling({"function": {"name": ""}})], "row_bad_tool_call"),
        ([USER, calling({"function": {"name": "f", "arguments": "{broken"}})], "row_bad_tool_call"),
        ([USER, calling({"function": {"name": "f", "arguments": "[1]"}})], "row_bad_tool_call"),
        ([USER, calling({"function": {"name": "f", "arguments": {"x": "a\0"}}})], "row_nul"),
        ([USER, calling({"function": {"name": "f", "arguments": {"x": float("nan")}}})], "row_bad_number"),
        ([USER, calling({"id": 1, "function": {"name": "f"}})], "row_not_text"),
        ([USER, calling("f(x)")], "row_bad_tool_call"),
        ([USER, {**ANSWER, "content": [{"type": "image_url"}]}], "row_not_only_text"),
        ([USER, {**ANSWER, "content": [{"type": "input_audio"}]}], "row_not_only_text"),
        ([USER, {**ANSWER, "content": [{"type": "thinking"}]}], "row_part_not_text"),
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
    assert codes("sharegpt", {"conversations": [{"from": "critic", "value": "x"}]}) == ["row_unknown_role"]
    assert codes("alpaca", {**ROWS["alpaca"], "history": ["a"]}) == ["row_bad_history"]
    assert codes("alpaca", {"instruction": "Q"}, output="output") == ["row_missing_field"]


def test_calls_and_results_of_tools_are_kept_with_the_definitions():
    messages = [
        {"role": "developer", "content": "S"},
        USER,
        calling(CALL, {"function": {"name": "now", "arguments": ""}}),
        {"role": "tool", "content": "3", "tool_call_id": "c1"},
        {"role": "tool", "content": "", "name": "now"},
        ANSWER,
    ]
    row = convert("messages", {"messages": messages, "tools": [ADD, {"type": "function", "function": {"name": "now"}}]})
    assert said(row) == [
        ("system", "S"),
        ("user", "Q"),
        ("assistant", ""),
        ("tool", "3"),
        ("tool", ""),
        ("assistant", "A"),
    ]
    assert json.loads(row["messages"][2]["tool_calls"]) == [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": {"x": [1, 2]}}},
        {"id": None, "type": "function", "function": {"name": "now", "arguments": {}}},
    ]
    assert (row["messages"][3]["tool_call_id"], row["messages"][4]["name"]) == ("c1", "now")
    assert json.loads(row["tools"]) == [
        {"type": "function", "function": ADD},
        {"type": "function", "function": {"name": "now"}},
    ]


def test_functions_of_old_are_tools():
    call = {"role": "assistant", "content": None, "function_call": CALL["function"]}
    raw = {
        "messages": [USER, call, {"role": "function", "name": "add", "content": "3"}],
        "functions": json.dumps([ADD]),
    }
    row = convert("messages", raw)
    assert [role for role, _ in said(row)] == ["user", "assistant", "tool"]
    assert json.loads(row["messages"][1]["tool_calls"])[0]["function"] == {"name": "add", "arguments": {"x": [1, 2]}}
    assert json.loads(row["tools"]) == [{"type": "function", "function": ADD}]


def test_sharegpt_calls_tools_in_turns_of_their_own():
    call = json.dumps({"name": "add", "arguments": {"x": 1}})
    spoken = [("human", "Q"), ("function_call", call), ("observation", "3"), ("gpt", "A")]
    raw = {"conversations": [{"from": who, "value": what} for who, what in spoken], "tools": json.dumps([ADD])}
    row = convert("sharegpt", raw)
    assert said(row) == [("user", "Q"), ("assistant", ""), ("tool", "3"), ("assistant", "A")]
    assert json.loads(row["messages"][1]["tool_calls"])[0]["function"]["name"] == "add"
    assert json.loads(row["tools"]) == [{"type": "function", "function": ADD}]
    raw["conversations"][1]["value"] = "add(1)"
    assert codes("sharegpt", raw) == ["row_bad_tool_call"]


@pytest.mark.parametrize("tools", ["{}", "[1]", [{"type": "function"}], 5, {"name": "add"}])
def test_broken_definitions_of_tools_are_named(tools):
    assert codes("messages", {**ROWS["messages"], "tools": tools}) == ["row_bad_tools"]


def test_a_system_text_that_stands_twice_is_said_once():
    system = {"role": "system", "content": "S"}
    assert said(convert("messages", {"messages": [system, USER, ANSWER], "system": "S"}))[0] == ("system", "S")
    assert codes("messages", {"messages": [system, USER, ANSWER], "system": "T"}) == ["row_system_not_first"]


def test_transcripts_are_cut_into_turns_and_the_last_answer_is_the_pair():
    before = "\n\nHuman: one\n\nAssistant: two\n\nHuman: Assistant: three\n\nmore\n\nAssistant:"
    row = convert("preference", {"chosen": before + " A ", "rejected": before + " B"})
    assert said(row, "prompt") == [("user", "one"), ("assistant", "two"), ("user", "Assistant: three\n\nmore")]
    assert (said(row, "chosen"), said(row, "rejected")) == ([("assistant", "A")], [("assistant", "B")])
    given = convert("preference", {"prompt": before, "chosen": "A", "rejected": "B"})
    assert given == row
    assert codes("preference", {"chosen": before + " A", "rejected": before + " "}) == ["row_empty_answer"]
    other = "\n\nHuman: other\n\nAssistant: B"
    assert codes("preference", {"chosen": before + " A", "rejected": other}) == ["row_prompts_differ"]


def test_a_conversation_and_two_sides_are_a_pair():
    row = convert(*ALSO["conversations with sides"])
    assert (said(row, "prompt"), said(row, "chosen"), said(row, "rejected")) == (
        [("user", "Q")],
        [("assistant", "A")],
        [("assistant", "B")],
    )


def test_a_ranking_becomes_pairs_of_neighbours_and_equal_places_are_no_pair():
    raw = {"prompt": "Q", "responses": ["third", "best", "second", "second too"], "rank": [3, 1, 2, 2]}
    made = [(said(row, "chosen")[0][1], said(row, "rejected")[0][1]) for row in all_rows("rankings", raw)]
    assert made == [("best", "second"), ("best", "second too"), ("second", "third"), ("second too", "third")]


def test_scores_are_kept_or_chosen_as_a_ranking():
    raw = ROWS["scored"]
    assert [(said(row, "completion"), row["score"], row["label"]) for row in all_rows("scored", raw)] == [
        ([("assistant", "A")], 5.0, None),
        ([("assistant", "B")], 3.5, None),
    ]
    (pair,) = all_rows("rankings", {**raw, "scores": [1, 2]})
    assert (said(pair, "chosen"), said(pair, "rejected")) == ([("assistant", "B")], [("assistant", "A")])


@pytest.mark.parametrize(
    ("kind", "changes", "code"),
    [
        ("rankings", {"rank": [1]}, "row_other_count"),
        ("rankings", {"rank": [1, 1]}, "row_none_better"),
        ("rankings", {"rank": [1, None]}, "row_not_number"),
        ("rankings", {"rank": [True, 2]}, "row_not_number"),
        ("rankings", {"responses": ["A", ""]}, "row_empty_answer"),
        ("rankings", {"responses": []}, "row_no_answer"),
        ("rankings", {"prompt": ""}, "row_no_prompt"),
        ("scored", {"scores": ["good", 1]}, "row_not_number"),
        ("scored", {"scores": [float("inf"), 1]}, "row_bad_number"),
        ("scored", {"responses": ["A", 7]}, "row_not_text"),
        ("scored", {"responses": "[broken"}, "row_bad_cell_json"),
        ("kto", {"label": 2}, "row_bad_label"),
        ("kto", {"label": "good"}, "row_bad_label"),
        ("kto", {"label": None}, "row_bad_label"),
        ("kto", {"prompt": None}, "row_no_prompt"),
        ("kto", {"completion": ""}, "row_empty_answer"),
        ("kto", {"completion": [USER, ANSWER, USER]}, "row_prompts_differ"),
        ("classification", {"label": 1}, "row_label_number"),
        ("classification", {"label": 1.5}, "row_not_text"),
        ("classification", {"label": None}, "row_empty_answer"),
        ("classification", {"text": " "}, "row_empty_question"),
        ("classification", {"text": 5}, "row_not_text"),
        ("entities", {"facts": []}, "row_empty_text"),
        ("entities", {"facts": [3]}, "row_not_text"),
        ("entities", {"facts": 3}, "row_not_text"),
        ("entities", {"facts": [{"what": "x"}]}, "row_not_text"),
        ("entities", {"entity": ""}, "row_empty_text"),
        ("text", {"text": "\n"}, "row_empty_text"),
        ("text", {"text": None}, "row_empty_text"),
        ("text", {"text": 4}, "row_not_text"),
        ("text", {"text": "a\0"}, "row_nul"),
        ("prompt_completion", {"completion": ["A", ""]}, "row_empty_answer"),
        ("prompt_completion", {"completion": [1]}, "row_part_not_text"),
    ],
)
def test_what_is_wrong_with_a_row_of_other_shapes_has_a_name(kind, changes, code):
    assert codes(kind, {**ROWS[kind], **changes}) == [code]


@pytest.mark.parametrize("kind", ["rankings", "scored", "kto", "classification", "entities", "text"])
def test_a_column_that_a_row_lacks_is_named(kind):
    last = FORMATS[kind].required[-1]
    column = find_columns([ROWS[kind]], FORMATS[kind].roles)[last]
    raw = {name: value for name, value in ROWS[kind].items() if name != column}
    assert codes(kind, raw, **{last: column}) == ["row_missing_field"]


def test_answers_judged_one_by_one_keep_their_label():
    for label, read in ((True, True), (0, False), ("False", False), ("1", True)):
        row = convert("kto", {**ROWS["kto"], "label": label})
        assert row["label"] is read and row["score"] is None
    row = convert("kto", {"messages": [USER, ANSWER], "label": False})
    assert (said(row, "prompt"), said(row, "completion")) == ([("user", "Q")], [("assistant", "A")])
    assert said(convert("kto", {"instruction": "Q", "input": "I", "output": "A", "kto_tag": True}), "prompt") == [
        ("user", "Q\n\nI")
    ]


def test_an_instruction_goes_before_each_text_that_has_a_label():
    assert said(convert("classification", ROWS["classification"], {"instruction": "Name it."})) == [
        ("user", "Name it.\n\nQ"),
        ("assistant", "A"),
    ]
    assert said(convert("classification", ROWS["classification"], {"instruction": ""}))[0] == ("user", "Q")


def test_numbers_become_labels_by_the_names_that_were_given_and_others_are_named():
    names = {"labels": "bad, good"}
    for label in (1, "1", True, "good"):
        assert said(convert("classification", {"text": "Q", "label": label}, names))[1] == ("assistant", "good")
    for label in (2, -1, "2", "fair"):
        assert codes("classification", {"text": "Q", "label": label}, names) == ["row_unknown_label"]


@pytest.mark.parametrize(
    ("facts", "text"),
    [
        (["was a poet.", "lived in Kyoto."], "Q\nwas a poet.\nlived in Kyoto."),
        ('["a", "b"]', "Q\na\nb"),
        ("one fact", "Q\none fact"),
        ({"born": "1815"}, "Q\nborn: 1815"),
        ([{"relation": "born", "object": "1815"}], "Q\nborn: 1815"),
    ],
)
def test_facts_become_a_text_under_their_entity(facts, text):
    assert convert("entities", {"entity": "Q", "facts": facts})["text"] == text


def test_several_answers_are_a_row_each():
    rows = all_rows("prompt_completion", {"prompt": "Q", "completions": ["A", "B"]})
    assert [said(row)[-1] for row in rows] == [("assistant", "A"), ("assistant", "B")]


KEYS = [
    *("role", "content", "from", "value", "type", "text", "train", "weight", "user", "assistant", "rank", "score"),
    *("tool_calls", "function_call", "function", "name", "arguments", "relation", "object"),
]
WORDS = ["user", "assistant", "tool", "system", "human", "gpt", "function_call", "true", "[1]", "[", "{}", '[{"role":']
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
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
