"""New tokens: one id each wherever they stand, and a row of average length."""

from __future__ import annotations

import torch

from engine.models.loading import load_model, load_tokenizer
from engine.models.vocabulary import make_room, missing

NEW = ("<think>", "</think>", "Zylinderkopf")


def test_a_new_token_is_one_id_wherever_it_stands_and_is_shown(tiny_model):
    plain, tokenizer = load_tokenizer(tiny_model), load_tokenizer(tiny_model, new_tokens=NEW)
    text = "so <think>a Zylinderkopf</think>, yes"
    ids = tokenizer.encode(text)

    assert [ids.count(one) for one in tokenizer.convert_tokens_to_ids(list(NEW))] == [1, 1, 1]
    assert len(ids) < len(plain.encode(text))
    assert tokenizer.decode(ids, skip_special_tokens=True) == text
    assert len(tokenizer) == len(plain) + 3


def test_a_token_that_is_there_stays_what_it_is(tiny_model):
    plain = load_tokenizer(tiny_model)
    known = next(iter(plain.added_tokens_encoder))
    tokenizer = load_tokenizer(tiny_model, new_tokens=("<new>", known))
    assert missing(plain, ("<new>", known)) == ["<new>"] and len(tokenizer) == len(plain) + 1
    assert tokenizer.convert_tokens_to_ids(known) == plain.convert_tokens_to_ids(known)


def test_its_row_is_the_average_of_those_before_and_nothing_else_moves(tiny_model):
    tokenizer = load_tokenizer(tiny_model, new_tokens=NEW)
    before, model = load_model(tiny_model, dtype="float32"), load_model(tiny_model, dtype="float32")
    make_room(model, tokenizer, NEW)
    old, rows = before.get_input_embeddings().weight, model.get_input_embeddings().weight
    first = min(tokenizer.convert_tokens_to_ids(list(NEW)))

    assert len(rows) == max(len(old), len(tokenizer)) == model.config.vocab_size
    assert torch.equal(rows[:first], old[:first])
    assert torch.allclose(rows[first : first + 3], old[:first].mean(0).expand(3, -1))
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        assert torch.equal(model(ids).logits[..., :first], before(ids).logits[..., :first])


def test_rows_that_a_model_has_to_spare_are_taken_first(tiny_model):
    tokenizer = load_tokenizer(tiny_model, new_tokens=NEW)
    model = load_model(tiny_model, dtype="float32")
    model.resize_token_embeddings(len(tokenizer) + 61, mean_resizing=False)
    make_room(model, tokenizer, NEW)

    assert len(model.get_input_embeddings().weight) == len(tokenizer) + 61
