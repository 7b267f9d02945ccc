"""AdamW without a schedule: the result is an average of all steps (Defazio et al. 2024)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


class ScheduleFreeAdamW(Optimizer):
    """The weights of the model are the paper's y, where gradients are taken; `published` gives x, the average.

    Its z is kept as state. A step counts in the average by the square of the highest rate so far, as the authors
    weigh the warm-up.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0, "highest_lr": 0.0, "weight_sum": 0.0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move y and z of every weight that has a gradient."""
        del closure
        for group in self.param_groups:
            group["highest_lr"] = max(group["highest_lr"], group["lr"])
            counts = group["highest_lr"] ** 2
            group["weight_sum"] += counts
            share = counts / group["weight_sum"] if group["weight_sum"] else 0.0
            for weight in group["params"]:
                if weight.grad is not None:
                    self._move(weight, group, share)

    def _move(self, y: Tensor, group: dict[str, Any], share: float) -> None:
        state, (beta1, beta2), rate = self.state[y], group["betas"], group["lr"]
        if not state:
            state.update(step=0, z=y.clone(), square=torch.zeros_like(y))
        state["step"] += 1
        z, square = state["z"], state["square"]
        square.mul_(beta2).addcmul_(y.grad, y.grad, value=1 - beta2)
        size = square.sqrt().div_(math.sqrt(1 - beta2 ** state["step"])).add_(group["eps"])
        step = (y.grad / size).add_(y, alpha=group["weight_decay"])
        y.lerp_(z, share).add_(step, alpha=rate * (beta1 * (1 - share) - 1))
        z.sub_(step, alpha=rate)

    def published(self, weight: Tensor) -> Tensor:
        """The average that is the result for a weight, as a tensor of its own."""
        beta1, state = self.param_groups[0]["betas"][0], self.state.get(weight)
        return weight.detach().clone() if not state else weight.detach().lerp(state["z"], 1 - 1 / beta1)
