"""GaLore: AdamW that keeps its averages in the main directions of a matrix's gradients alone (Zhao et al. 2024)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from galore_torch import GaLoreAdamW
from galore_torch.galore_projector import GaLoreProjector

from engine.optimizers.groups import MATRIX

SHARE = 4
"""The smaller side of a matrix, divided by the number of directions; the paper's for a model of 7 billion."""
STEPS = 200
"""After how many steps the directions are chosen anew."""
DIRECTIONS = "directions"
_SETTINGS = ("rank", "update_proj_gap", "scale", "proj_type")


class PlainGaLoreAdamW(GaLoreAdamW):
    """The library's optimiser, with a state of tensors and numbers alone: it is saved and read without a pickle.

    What comes back from the directions is not scaled, so that AdamW's learning rates fit.
    """

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, betas: tuple[float, float], eps: float) -> None:
        parts = [part for group in groups for part in _by_size(group)]
        super().__init__(parts, lr=lr, betas=betas, eps=eps, no_deprecation_warning=True)

    def state_dict(self) -> dict[str, Any]:
        """The library's, with the directions themselves in the place of the object that holds them."""
        found = super().state_dict()
        return {**found, "state": {place: _plain(state) for place, state in found["state"].items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up what `state_dict` gave."""
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            for weight in group["params"]:
                if DIRECTIONS in self.state.get(weight, {}):
                    state = self.state[weight]
                    state["projector"] = GaLoreProjector(**{name: group[name] for name in _SETTINGS})
                    state["projector"].ortho_matrix = state.pop(DIRECTIONS)


def _by_size(group: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Matrices in groups of one number of directions; other weights as they are."""
    if not group[MATRIX] or not group["params"]:
        yield group
        return
    sizes: dict[int, list[Any]] = {}
    for weight in group["params"]:
        sizes.setdefault(max(1, min(weight.shape) // SHARE), []).append(weight)
    for rank, weights in sizes.items():
        yield {**group, "params": weights, "rank": rank, "update_proj_gap": STEPS, "scale": 1.0, "proj_type": "std"}


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in state.items() if name != "projector"}
    return {**kept, DIRECTIONS: state["projector"].ortho_matrix} if "projector" in state else kept
