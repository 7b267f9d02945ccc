"""How far an export may be from the chat, stated before it is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Least share of answer tokens with the same likeliest token, and largest mean KL divergence in nats."""

    min_agreement: float
    max_kl: float


LIMITS = {
    # The base as the run saw it: only rounding to 16 bits lies between.
    "trained": Limits(min_agreement=0.98, max_kl=0.02),
    # The base before it was quantised differs from what was trained by the quantisation error.
    "original": Limits(min_agreement=0.85, max_kl=0.25),
}
"""By `ExportSpec.base`."""
