"""What the tuners that add weights beside the base share: where they sit, and how a library's refusal is told."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.specs.base import setting
from engine.specs.problem import ProblemError, problem

ALL_LINEAR = "all-linear"
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv", "out_proj")
KEYS_AND_VALUES = ("k_proj", "v_proj", "qkv_proj", "c_attn", "query_key_value", "Wqkv")
FEED_FORWARD_OUT = ("down_proj", "fc2", "fc_out", "dense_4h_to_h")

Targets = Literal["all-linear", "attention"]


def targets_setting(default: Targets = "all-linear") -> Any:
    """The field that chooses the layers."""
    return setting(
        default, "Layers", "Which linear layers are tuned: all of them, or those of the attention alone."
    )


def names(targets: str) -> str | list[str]:
    """The layers as the library takes them."""
    return ALL_LINEAR if targets == ALL_LINEAR else list(ATTENTION)


def shapes(facts: dict[str, Any], targets: str | Sequence[str]) -> list[tuple[int, int]]:
    """Inputs and outputs of the chosen linear layers: by the choice's name, or by the last parts of their names."""
    wanted = ATTENTION if targets == "attention" else targets
    return [
        (int(one["in"]), int(one["out"]))
        for one in facts["linear_shapes"]
        if wanted == ALL_LINEAR or one["name"].rsplit(".", 1)[-1] in wanted
    ]


def wrap(model: Any, config: Any) -> Any:
    """Put a new adapter beside the model, the only thing that moves.

    Raises:
        ProblemError: the library cannot put it there: `tuner_does_not_fit`.
    """
    from peft import get_peft_model

    try:
        return get_peft_model(model, config)
    except ValueError as error:
        told = {"tuner": str(config.peft_type.value).lower(), "detail": str(error)[:300]}
        raise ProblemError([problem("tuner_does_not_fit", field="tuner.kind", **told)]) from error
