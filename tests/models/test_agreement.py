"""The measure that exports are judged by."""

from __future__ import annotations

import pytest

from engine.models.agreement import MAX_TOKENS, MIN_TOKENS, Row, compare, log_probabilities, tokens_wanted


def test_equal_models_agree_wholly_and_others_by_hand_counted_figures():
    import torch

    left = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]))
    right = torch.log(torch.tensor([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]]))
    assert compare(left, left).top1 == 1.0 and compare(left, left).kl == 0.0
    found = compare(left, right)
    expected = (0.5 * torch.log(torch.tensor(2.0)) + 0.25 * torch.log(torch.tensor(0.5))) / 2
    assert found.num_tokens == 2 and found.top1 == 0.5
    assert found.kl == pytest.approx(float(expected), rel=1e-6)


def test_only_answer_tokens_are_looked_at_each_from_the_token_before_it(tiny_model):
    import torch

    from engine.models.loading import load_model

    model = load_model(tiny_model, dtype="float32")
    row = Row((5, 6, 7, 8), (True, False, True, True))
    found = log_probabilities(model, [row, row])
    with torch.inference_mode():
        whole = torch.log_softmax(model(torch.tensor([row.ids])).logits[0], -1)
    assert row.num_answer_tokens == 2 and found.shape == (4, 49152)
    assert torch.allclose(found[:2], whole[[1, 2]], atol=1e-5)


def test_more_tokens_are_compared_where_it_is_quick():
    assert tokens_wanted(49152, "cpu") == MIN_TOKENS
    assert tokens_wanted(32_000, "cuda") == MAX_TOKENS
    assert tokens_wanted(10**9, "cuda") == MIN_TOKENS
