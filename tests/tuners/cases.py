"""Every way of tuning, with the number of weights that it moves on the tiny model, counted by hand.

The tiny model: two layers of width 64, inner width 128, keys and values of width 32, 49,152 shared embeddings. A
layer's linear shapes (into, out): q 64 64, k and v 64 32, o 64 64, gate and up 64 128, down 128 64.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

LAYERS = 2
SIDES = LAYERS * (128 + 96 + 96 + 128 + 192 + 192 + 192)
"""Inputs and outputs of all linear layers together."""
OUTPUTS = LAYERS * (64 + 32 + 32 + 64 + 128 + 128 + 64)
LINEAR = LAYERS * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3)
NORMS = 5 * 64
EMBEDDINGS = 49152 * 64


@dataclass(frozen=True)
class Case:
    """A tuner's section of a spec, what it moves, and what its weights are called."""

    name: str
    tuner: dict[str, Any]
    moves: int
    called: tuple[str, ...] = ()
    """Each moved weight has one of these in its name; any name where this is empty."""
    rate: float = 1e-2
    forms: tuple[str, ...] = field(default=("none", "int8", "nf4"))
    rests: tuple[str, ...] = ()
    """What may be where it was at the end, though it is trained."""
    variant: bool = False
    """Whether it differs from another case by little: tried by `make slow`."""
    exact: bool = True
    """Whether the adapter beside the plain base gives the very numbers of training, not the same but for rounding."""


def _lora(name: str, moves: int = 4 * SIDES, *, exact: bool = True, variant: bool = False, **settings: Any) -> Case:
    forms = ("none", "int8", "nf4")
    if settings.get("dora"):
        forms = ("none", "nf4")
    if settings.get("initialisation") == "loftq":
        forms = ("nf4",)
    called = ("lora_A", "lora_B", "lora_magnitude_vector", "trainable_tokens_delta")
    tuner = {"kind": "lora", "rank": 4, **settings}
    return Case(name, tuner, moves, called, forms=forms, exact=exact, variant=variant)


CASES = (
    Case("full", {"kind": "full"}, LINEAR + NORMS + EMBEDDINGS, forms=("none",)),
    Case("freeze", {"kind": "freeze", "last_layers": 1}, LINEAR // 2 + 2 * 64, ("layers.1.",), forms=("none",)),
    Case(
        "freeze-named",
        {"kind": "freeze", "last_layers": 0, "modules": "v_proj, mlp.down_proj"},
        LAYERS * (64 * 32 + 128 * 64),
        ("v_proj", "mlp.down_proj"),
        forms=("none",),
    ),
    Case(
        "freeze-head",
        {"kind": "freeze", "last_layers": 0, "head": True},
        EMBEDDINGS,
        ("embed_tokens",),
        forms=("none",),
    ),
    _lora("lora", dropout=0.1),
    _lora("lora-attention", 4 * LAYERS * (128 + 96 + 96 + 128), targets="attention", variant=True),
    _lora("lora-rslora", rslora=True, variant=True),
    _lora("lora-dora", 4 * SIDES + OUTPUTS, dora=True),
    _lora("lora-gaussian", initialisation="gaussian", variant=True),
    _lora("lora-pissa", initialisation="pissa", exact=False),
    _lora("lora-pissa-fast", initialisation="pissa_niter", rslora=True, exact=False, variant=True),
    _lora("lora-olora", initialisation="olora", exact=False),
    _lora("lora-loftq", initialisation="loftq"),
    _lora("lora-eva", initialisation="eva"),
    _lora("lora-tokens", 4 * SIDES + 2 * 64, train_tokens="<repo_name> <jupyter_start>"),
    Case(
        "adalora",
        {"kind": "adalora", "initial_rank": 6, "rank": 3},
        6 * SIDES + 6 * LAYERS * 7,
        ("lora_A", "lora_B", "lora_E"),
        forms=("none", "nf4"),
        rests=("lora_E",),  # of a layer whose whole rank was cut they are zero again
    ),
    Case("ia3", {"kind": "ia3"}, LAYERS * (32 + 32 + 128), ("ia3_l",), rate=0.3),
    Case(
        "ia3-attention", {"kind": "ia3", "feed_forward": False}, LAYERS * (32 + 32), ("ia3_l",), rate=0.3, variant=True
    ),
    Case("prefix", {"kind": "prefix", "num_virtual_tokens": 5}, 5 * LAYERS * (32 + 32), ("prompt_encoder",)),
    Case("prompt", {"kind": "prompt", "num_virtual_tokens": 5}, 5 * 64, ("prompt_encoder",)),
    Case(
        "prompt-text",
        {"kind": "prompt", "num_virtual_tokens": 5, "text": "Be brief."},
        5 * 64,
        ("prompt_encoder",),
        variant=True,
    ),
    Case(
        "p_tuning",
        {"kind": "p_tuning", "num_virtual_tokens": 5, "width": 32},
        5 * 64 + (64 * 32 + 32) + (32 * 32 + 32) + (32 * 64 + 64),
        ("prompt_encoder",),
    ),
    Case("ln_tuning", {"kind": "ln_tuning"}, NORMS, ("norm",)),
    Case(
        "oft",
        {"kind": "oft", "block_size": 24},  # 64 is 4 blocks of 16, or 2 of 32: as near; 128 likewise
        LAYERS * (6 * 4 + 8) * (16 * 15 // 2),
        ("oft_R",),
    ),
    Case("boft", {"kind": "boft", "block_size": 4}, LAYERS * (4 * 64 * 4 + 64 + 32 + 32 + 64), ("boft_R", "boft_s")),
    Case("vera", {"kind": "vera", "rank": 8}, LAYERS * 7 * 8 + OUTPUTS, ("vera_lambda",), rate=0.1),
    Case(
        "lokr",
        {"kind": "lokr", "rank": 3},
        # 64 is 8·8, 32 is 4·8, 128 is 8·16: a small whole matrix, and factors of rank 3 or, where narrow, whole ones
        LAYERS * (2 * (64 + 3 * 16) + 2 * (32 + 3 * 16) + 3 * (64 + 3 * 24)),
        ("lokr_",),
        forms=("none", "int8"),
    ),
    Case("loha", {"kind": "loha", "rank": 4}, 2 * 4 * SIDES, ("hada_",), forms=("none", "int8")),
)
