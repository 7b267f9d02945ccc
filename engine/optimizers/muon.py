"""Muon for the matrices of the layers, AdamW for all else, as one optimiser (Jordan 2024; Liu et al. 2025)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Muon, Optimizer

from engine.optimizers.groups import MATRIX


class MuonAdamW(Optimizer):
    """Torch's own Muon and AdamW on the groups of one state.

    A step of Muon is scaled to the size of one of AdamW, so that a learning rate fits both (Liu et al. 2025).
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        # An optimiser puts its own settings into the groups that it is made of: ours are the same dicts.
        none: list[dict[str, Any]] = [{"params": []}]
        self._muon = Muon(_of(groups, True) or none, lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        self._adamw = AdamW(_of(groups, False) or none, lr=lr, betas=betas, eps=eps)
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        del closure
        for orthogonal, inner in ((True, self._muon), (False, self._adamw)):
            inner.param_groups = _of(self.param_groups, orthogonal)  # loading a state makes new ones
            inner.state = self.state
            inner.step()  # type: ignore[no-untyped-call]
        self._count()

    def _count(self) -> None:
        """Count Muon's steps as AdamW counts its own: by them a resumed run is checked."""
        for group in _of(self.param_groups, True):
            for weight in group["params"]:
                if weight.grad is not None:
                    self.state[weight]["step"] = self.state[weight].get("step", 0) + 1


def _of(groups: list[dict[str, Any]], matrices: bool) -> list[dict[str, Any]]:
    return [group for group in groups if group[MATRIX] is matrices]
