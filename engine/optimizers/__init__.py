"""The optimisers by name: what each keeps for a weight, where it is at home, and how it is made. Torch-free itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Made = tuple[type, dict[str, Any]]
"""An optimiser's class and the arguments that it takes beside the groups of weights."""
BETAS = (0.9, 0.999)
EPSILON = 1e-8


@dataclass(frozen=True, slots=True)
class Optimizer:
    """A rule that turns gradients into steps."""

    make: Callable[[float], Made]
    """From the learning rate."""
    state_bytes: float
    """What it keeps for each trained weight from its first step on; with `by_matrix` for those of the layers' matrices,
    and for others what AdamW keeps."""
    rate_factor: float = 1.0
    """Its usual learning rate as a multiple of AdamW's."""
    home: str = ""
    """The kind of device that it is made for; on others it works, slowly. Empty: any."""
    by_matrix: bool = False
    """Whether it treats the matrices of the layers in a way of their own: see `muon.py` and `galore.py`."""
    only_whole: bool = False
    """Whether it is made for the model's own weights: an adapter's have nothing to save."""
    averages: bool = False
    """Whether its result is an average that it keeps itself: see `engine/optimizers/schedule_free.py`."""


def _adamw(rate: float) -> Made:
    from torch.optim import AdamW

    return AdamW, {"lr": rate, "betas": BETAS, "eps": EPSILON, "fused": True}


def _adamw_of_bits(bits: int, *, paged: bool) -> Callable[[float], Made]:
    def make(rate: float) -> Made:
        from bitsandbytes.optim.adamw import AdamW

        return AdamW, {"lr": rate, "betas": BETAS, "eps": EPSILON, "optim_bits": bits, "is_paged": paged}

    return make


def _adafactor(rate: float) -> Made:
    """Shazeer and Stern 2018, with the rate from outside."""
    from transformers.optimization import Adafactor

    return Adafactor, {"lr": rate, "scale_parameter": False, "relative_step": False}


def _lion_of_bits(bits: int) -> Callable[[float], Made]:
    """Chen et al. 2023, with the betas of the paper."""

    def make(rate: float) -> Made:
        from bitsandbytes.optim.lion import Lion

        return Lion, {"lr": rate, "betas": (0.9, 0.99), "optim_bits": bits}

    return make


def _muon(rate: float) -> Made:
    from engine.optimizers.muon import MuonAdamW

    return MuonAdamW, {"lr": rate, "betas": BETAS, "eps": EPSILON}


def _galore(rate: float) -> Made:
    from engine.optimizers.galore import PlainGaLoreAdamW

    return PlainGaLoreAdamW, {"lr": rate, "betas": BETAS, "eps": EPSILON}


def _schedule_free(rate: float) -> Made:
    from engine.optimizers.schedule_free import ScheduleFreeAdamW

    return ScheduleFreeAdamW, {"lr": rate, "betas": BETAS, "eps": EPSILON}


def _sgd(rate: float) -> Made:
    from torch.optim import SGD

    return SGD, {"lr": rate}


OPTIMIZERS: dict[str, Optimizer] = {
    "adamw": Optimizer(_adamw, 8.0),
    "adamw_8bit": Optimizer(_adamw_of_bits(8, paged=False), 2.0),
    "paged_adamw": Optimizer(_adamw_of_bits(32, paged=True), 8.0, home="cuda"),
    "paged_adamw_8bit": Optimizer(_adamw_of_bits(8, paged=True), 2.0, home="cuda"),
    "adafactor": Optimizer(_adafactor, 0.0),
    "lion": Optimizer(_lion_of_bits(32), 4.0, rate_factor=0.2),
    "lion_8bit": Optimizer(_lion_of_bits(8), 1.0, rate_factor=0.2),
    "muon": Optimizer(_muon, 4.0, by_matrix=True),
    "galore": Optimizer(_galore, 2.5, by_matrix=True, only_whole=True),
    "schedule_free": Optimizer(_schedule_free, 8.0, averages=True),
    "sgd": Optimizer(_sgd, 0.0),
}
