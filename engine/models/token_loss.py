"""The loss of predicted tokens, from hidden states straight to gradients: no more than a chunk of logits is in memory.

Child processes only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

CHUNK = 256
"""Positions whose logits are computed together: at 49,152 words 50 MB in float32."""


def weighted_loss(
    hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor, weights: torch.Tensor, *, dynamic: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of each position's weight times its negative log-likelihood, and the latter without gradients.

    `hidden` is (positions, width), `targets` and `weights` are (positions,). With `dynamic` each term is scaled by the
    probability of its target, which carries no gradient (dynamic fine-tuning, Wu et al. 2025, arXiv 2508.05629).
    """
    total, nll = _HeadLoss.apply(hidden, head.weight, head.bias, targets, weights, dynamic)
    return total, nll


class _HeadLoss(torch.autograd.Function):
    """Output layer and cross-entropy in one, chunk by chunk.

    The gradients are made on the way forward, while a chunk's logits are there: nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        weights: torch.Tensor,
        dynamic: bool,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        kind = _arithmetic(hidden)
        matrix = weight.to(kind)
        nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        total = hidden.new_zeros((), dtype=torch.float32)
        grads = _Gradients(ctx.needs_input_grad, hidden, weight, bias)
        for start in range(0, len(targets), CHUNK):
            span = slice(start, start + CHUNK)
            states = hidden[span].to(kind)
            logits = functional.linear(states, matrix, None if bias is None else bias.to(kind)).float()
            norm = logits.logsumexp(-1)
            chosen = targets[span, None]
            nll[span] = norm - logits.gather(1, chosen)[:, 0]
            scale = weights[span] * torch.exp(-nll[span]) if dynamic else weights[span]
            total += (scale * nll[span]).sum()
            if grads.wanted:
                probabilities = logits.sub_(norm[:, None]).exp_()
                probabilities.scatter_add_(1, chosen, -torch.ones_like(chosen, dtype=torch.float32))
                grads.add(span, probabilities.mul_(scale[:, None]).to(kind), states, matrix)
        ctx.save_for_backward(*grads.tensors)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor, _grad_nll: torch.Tensor) -> Any:
        scaled = [None if grad is None else grad * grad_total.to(grad.dtype) for grad in ctx.saved_tensors]
        return (*scaled, None, None, None)


class _Gradients:
    """The gradients with respect to hidden states, weight and bias, as far as each is wanted."""

    def __init__(self, needed: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        places = (hidden, weight, bias)
        self.tensors = [
            torch.zeros_like(place) if place is not None and needs else None
            for place, needs in zip(places, needed[:3], strict=True)
        ]
        self.wanted = any(one is not None for one in self.tensors)

    def add(self, span: slice, slope: torch.Tensor, states: torch.Tensor, matrix: torch.Tensor) -> None:
        """Add what a chunk contributes; `slope` is the gradient of its logits."""
        hidden, weight, bias = self.tensors
        if hidden is not None:
            hidden[span] = (slope @ matrix).to(hidden.dtype)
        if weight is not None:
            weight += (slope.T @ states).to(weight.dtype)
        if bias is not None:
            bias += slope.sum(0).to(bias.dtype)


def _arithmetic(hidden: torch.Tensor) -> torch.dtype:
    """The number format that a linear layer would compute in here."""
    device = hidden.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
