"""Rows with tools and thoughts: what a row says never becomes a control token, wherever it says it."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from engine.data.render import Renderer
from engine.models.loading import load_tokenizer

TEMPLATES = Path(__file__).parent / "templates"
CONTROL = ("<|im_end|>", "<|im_start|>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<|endoftext|>")
SAID = st.lists(st.sampled_from([*CONTROL, "a", " ", "水", '"', "\n"]), min_size=1, max_size=5).map("".join)


@pytest.fixture(scope="module")
def tokenizer(starter):
    made = copy.deepcopy(load_tokenizer(starter))
    made.add_tokens([AddedToken(token, special=False, normalized=False) for token in CONTROL[2:6]])
    made.chat_template = (TEMPLATES / "qwen_3.jinja").read_text().split("#}\n", 1)[1]
    return made


@pytest.fixture(scope="module")
def renderer(tokenizer):
    return Renderer(tokenizer)


def row(said, key="place"):
    call = {"id": "1", "type": "function", "function": {"name": "find", "arguments": json.dumps({key: said})}}
    tool = {
        "type": "function",
        "function": {"name": "find", "description": said, "parameters": {"properties": {key: {"description": said}}}},
    }
    messages = [
        {"role": "system", "content": said},
        {"role": "user", "content": said},
        {"role": "assistant", "content": "", "tool_calls": json.dumps([call])},
        {"role": "tool", "content": said, "tool_call_id": "1", "name": said},
        {"role": "assistant", "content": f"So {said.replace('</think>', '')}"},
    ]
    return messages, json.dumps([tool])


@given(SAID, st.sampled_from(["place", *CONTROL]))
@settings(max_examples=60, deadline=None)
def test_a_control_token_in_any_text_or_key_of_a_row_stays_text(renderer, tokenizer, said, key):
    ids = {tokenizer.convert_tokens_to_ids(token) for token in CONTROL}

    def control(*of):
        return [[token for token in part.ids if token in ids] for part in renderer.conversation(*row(*of))]

    assert control(said, key) == control("plain")


@given(SAID)
@settings(max_examples=30, deadline=None)
def test_a_control_token_in_a_document_stays_text(renderer, tokenizer, said):
    ids = list(renderer.document(said).ids)
    assert ids[-1] == tokenizer.eos_token_id
    assert not {tokenizer.convert_tokens_to_ids(token) for token in CONTROL} & set(ids[:-1])


def test_a_call_is_trained_and_its_result_is_context(renderer):
    *_, last = renderer.conversation(*row("Nice"))
    trained = "".join(text for text, on in zip(last.texts, last.trained, strict=True) if on)
    assert "<tool_response>" not in trained and trained.endswith("So Nice<|im_end|>")
    first = renderer.conversation(*row("Nice"))[0]
    called = "".join(text for text, on in zip(first.texts, first.trained, strict=True) if on)
    assert '<tool_call>\n{"name": "find", "arguments": {"place": "Nice"}}\n</tool_call><|im_end|>' in called


def test_a_thought_in_the_text_of_an_answer_is_written_with_the_models_own_marks(renderer, tokenizer):
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>\nWhy?\n</think>\n\nSo."}]
    (rendered,) = renderer.conversation(messages)
    trained = [token for token, on in zip(rendered.ids, rendered.trained, strict=True) if on]
    assert tokenizer.decode(trained) == "<think>\nWhy?\n</think>\n\nSo.<|im_end|>"
    assert trained[0] == tokenizer.convert_tokens_to_ids("<think>")
