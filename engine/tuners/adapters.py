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

FACTORS = ("IA3", "LN_TUNING")
"""The library's names of the kinds that multiply the states, or what makes them, by weights of their own."""

Targets = Literal["all-linear", "attention"]


def targets_setting(default: Targets = "all-linear") -> Any:
    """The field that chooses the layers."""
    return setting(default, "Layers", "Which linear layers are tuned: all of them, or those of the attention alone.")


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
        return keep_format(get_peft_model(model, config))
    except ValueError as error:
        told: dict[str, Any] = {"tuner": str(config.peft_type.value).lower(), "detail": str(error)[:300]}
        raise ProblemError([problem("tuner_does_not_fit", field="tuner.kind", **told)]) from error


def keep_format(model: Any) -> Any:
    """Let a layer with factors in float32 give its states back in the format that they came in.

    Else they widen the states, and the next layer of a 16-bit base stops.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer

    if str(model.peft_type.value) in FACTORS:
        for module in model.modules():
            if isinstance(module, BaseTunerLayer):
                module.register_forward_hook(_as_it_came)
    return model


def _as_it_came(module: Any, inputs: tuple[Any, ...], output: Any) -> Any:
    del module
    return output.to(inputs[0].dtype)
