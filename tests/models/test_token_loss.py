"""The chunked loss gives the numbers and gradients of the plain one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from engine.models import token_loss
from engine.models.token_loss import weighted_loss

VOCABULARY, WIDTH, POSITIONS = 97, 12, 23


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.setattr(token_loss, "CHUNK", 7)  # several chunks, the last one short
    torch.manual_seed(0)
    head = torch.nn.Linear(WIDTH, VOCABULARY)
    hidden = torch.randn(POSITIONS, WIDTH, requires_grad=True)
    return hidden, head, torch.randint(VOCABULARY, (POSITIONS,)), torch.rand(POSITIONS)


def plain(hidden, head, targets, weights, *, dynamic=False):
    nll = functional.cross_entropy(head(hidden), targets, reduction="none")
    scale = weights * (torch.exp(-nll.detach()) if dynamic else 1.0)
    return (scale * nll).sum(), nll.detach()


def gradients(total, *of):
    return torch.autograd.grad(total, of)


@pytest.mark.parametrize("dynamic", [False, True])
def test_loss_and_gradients_equal_cross_entropy_on_full_logits(parts, dynamic):
    hidden, head, targets, weights = parts
    ours, theirs = (way(hidden, head, targets, weights, dynamic=dynamic) for way in (weighted_loss, plain))
    torch.testing.assert_close(ours, theirs)
    of = (hidden, head.weight, head.bias)
    torch.testing.assert_close(gradients(ours[0], *of), gradients(theirs[0], *of))


def test_a_frozen_head_gets_no_gradient_and_the_states_still_do(parts):
    hidden, head, targets, weights = parts
    head.requires_grad_(False)
    total, _ = weighted_loss(hidden, head, targets, weights)
    total.backward()
    assert head.weight.grad is None and hidden.grad.abs().sum() > 0


def test_without_gradients_the_losses_are_the_same(parts):
    hidden, head, targets, weights = parts
    with torch.no_grad():
        total, nll = weighted_loss(hidden, head, targets, weights)
    torch.testing.assert_close((total, nll), tuple(one.detach() for one in plain(hidden, head, targets, weights)))


def test_under_autocast_it_rounds_as_a_linear_layer_does(parts):
    hidden, head, targets, weights = parts
    with torch.autocast("cpu", torch.bfloat16):
        ours = weighted_loss(hidden, head, targets, weights)
        logits = functional.linear(hidden.bfloat16(), head.weight.bfloat16(), head.bias.bfloat16())
    nll = functional.cross_entropy(logits.float(), targets, reduction="none")
    # the library's layer adds its bias before it rounds, ours behind
    torch.testing.assert_close(ours[1], nll.detach(), atol=2e-2, rtol=1e-2)


def test_no_position_gives_no_loss(parts):
    hidden, head, targets, weights = parts
    total, nll = weighted_loss(hidden[:0], head, targets[:0], weights[:0])
    total.backward()
    assert total.item() == 0.0 and len(nll) == 0
