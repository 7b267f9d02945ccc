"""The loss of predicted tokens, from hidden states straight to gradients: no more than a chunk of logits is in memory.

Child processes only.
"""

from __future__ import annotations

from typing import Any

import torch

CHUNK = 256
"""Positions whose logits are computed together: at 49,152 words 50 MB in float32."""


def weighted_loss(
    hidden: torch.Tensor, head: torch.nn.Linear, targets: torch.Tensor, weights: torch.Tensor, *, dynamic: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """The sum of each position's weight times its negative log-likelihood, and the latter without gradients.

    `hidden` is (positions, width), `targets` and `weights` are (positions,). With `dynamic` each term is scaled by the
    probability of its target, which carries no gradient (dynamic fine-tuning, Wu et al. 2025, arXiv 2508.05629).
    """
    apply: Any = _HeadLoss.apply
    total, nll = apply(hidden, head.weight, head.bias, targets, weights, dynamic)
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
        matrix = weight.to(_arithmetic(hidden))
        nll = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
        total = hidden.new_zeros((), dtype=torch.float32)
        grads = _Gradients(ctx.needs_input_grad, hidden, weight, bias)
        room = _Room(matrix, min(CHUNK, len(targets)))
        for start in range(0, len(targets), CHUNK):
            span = slice(start, start + CHUNK)
            states, chosen = hidden[span].to(matrix.dtype), targets[span, None]
            logits = room.logits(states, matrix, bias)
            top, said = logits.amax(-1), logits.gather(1, chosen)[:, 0]
            parts = logits.sub_(top[:, None]).exp_()
            sums = parts.sum(-1)
            nll[span] = sums.log() + top - said
            scale = weights[span] * torch.exp(-nll[span]) if dynamic else weights[span]
            total += (scale * nll[span]).sum()
            if grads.wanted:
                slope = parts.mul_((scale / sums)[:, None])
                grads.add(span, room.narrow(slope.scatter_add_(1, chosen, -scale[:, None])), states, matrix)
        ctx.save_for_backward(*grads.tensors)
        ctx.mark_non_differentiable(nll)
        return total, nll

    @staticmethod
    def backward(ctx: Any, grad_total: torch.Tensor, _grad_nll: torch.Tensor) -> Any:
        scaled = [None if grad is None else grad * grad_total.to(grad.dtype) for grad in ctx.saved_tensors]
        return (*scaled, None, None, None)


class _Room:
    """The memory of one chunk's logits, in both number formats, used for every chunk anew: fresh pages cost time."""

    def __init__(self, matrix: torch.Tensor, rows: int) -> None:
        self._narrow = matrix.new_empty((rows, len(matrix)))
        self._wide = torch.empty_like(self._narrow, dtype=torch.float32)

    def logits(self, states: torch.Tensor, matrix: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The chunk's logits in float32, rounded as a linear layer rounds them."""
        made = torch.mm(states, matrix.T, out=self._narrow[: len(states)])
        if bias is not None:
            made += bias.to(made.dtype)
        return self._wide[: len(states)].copy_(made)

    def narrow(self, values: torch.Tensor) -> torch.Tensor:
        """Values in the number format of the arithmetic."""
        return self._narrow[: len(values)].copy_(values)


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
