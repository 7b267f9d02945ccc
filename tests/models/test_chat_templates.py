"""A base model without a template gets one of ours, which is kept with what is trained on it."""

from __future__ import annotations

import json
import shutil

import pytest

from engine.data.render import Renderer
from engine.models import template
from engine.models.chat_templates import TEMPLATES
from engine.models.loading import load_tokenizer
from engine.models.serving import Served
from engine.specs.job import ModelPart
from engine.specs.problem import ProblemError

TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "One?"},
    {"role": "assistant", "content": "Two."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]


@pytest.fixture
def bare(tiny_model, tmp_path):
    """The tiny model without its template."""
    folder = tmp_path / "bare"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").unlink()
    return folder


@pytest.fixture
def unknown(bare):
    """And without ChatML's tokens."""
    for name in ("tokenizer.json", "tokenizer_config.json"):
        told = (bare / name).read_text().replace("<|im_start|>", "<|begin|>").replace("<|im_end|>", "<|end|>")
        (bare / name).write_text(told)
    return bare


def trained(tokenizer):
    (row,) = Renderer(tokenizer).conversation(TALK)
    return [tokenizer.decode(row.ids[start:end]) for start, end in row.answers]


def test_auto_takes_the_models_own_and_else_what_the_tokenizer_knows(tiny_model, bare):
    assert load_tokenizer(tiny_model).atelier_template is None
    made = load_tokenizer(bare)
    assert made.atelier_template == "chatml" and trained(made) == ["Two.<|im_end|>", "Yes.<|im_end|>"]


def test_without_its_tokens_the_plain_one_is_taken_and_chatml_refused(unknown):
    made = load_tokenizer(unknown)
    assert made.atelier_template == "plain" and trained(made) == [" Two.<|end|>", " Yes.<|end|>"]
    with pytest.raises(ProblemError) as caught:
        load_tokenizer(unknown, chat_template="chatml")
    assert caught.value.problems[0].code == "model_template_tokens_missing"


@pytest.mark.parametrize("name", TEMPLATES)
def test_each_of_ours_is_safe_ends_its_turns_and_gives_the_prompt_that_the_answer_goes_on_from(tiny_model, name):
    assert template.problems(TEMPLATES[name]) == [] and template.rehearse(TEMPLATES[name]) == []
    made = load_tokenizer(tiny_model, chat_template=name)
    renderer = Renderer(made)
    (row,) = renderer.conversation(TALK)
    assert renderer.marks_turn_end and made.atelier_template is None
    assert renderer.prompt(TALK[:-1]) == list(row.ids[: row.answers[-1][0]])
    assert all(said in made.decode(row.ids) for said in ("Be brief.", "One?", "Sure?"))


def test_the_spec_offers_each_of_ours():
    offered = ModelPart.model_json_schema()["properties"]["chat_template"]["enum"]
    assert offered == ["auto", *TEMPLATES]


def test_an_adapter_speaks_with_the_template_that_was_saved_with_it(bare, tmp_path):
    adapter = tmp_path / "adapter"
    load_tokenizer(bare, chat_template="instruct").save_pretrained(adapter)
    served = Served(bare, quantization="none", dtype="float32")
    said = served.tokenizer.decode(served.voice(adapter).renderer.prompt(TALK[:2]))
    assert said.endswith("### Instruction:\nOne?\n\n### Response:\n")
    assert "<|im_start|>" in served.tokenizer.decode(served.voice(None).renderer.prompt(TALK[:2]))
    assert served.voice(adapter).stop_ids == [2]
    again = load_tokenizer(bare, adapter=adapter)
    assert again.chat_template == TEMPLATES["instruct"] and again.atelier_template is None


def test_a_tokenizer_without_an_end_is_still_refused(bare):
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (bare / name).exists():
            told = json.loads((bare / name).read_text())
            told.pop("eos_token", None)
            (bare / name).write_text(json.dumps(told))
    with pytest.raises(ProblemError) as caught:
        Renderer(load_tokenizer(bare))
    assert caught.value.problems[0].code == "model_no_chat_template"
