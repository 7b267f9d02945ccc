"""Freeze tuning: the last layers move, or parts that are named; all else stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.specs.problem import ProblemError, problem
from engine.tuners.protocol import Given

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
NEW_HEADS = ("score.", "classifier.")
"""What a model with labels gets in the place of the language model's head: it starts untrained."""


class FreezeTuner:
    kind = "freeze"
    refuses: ClassVar[Mapping[str, str]] = {"int8": "moves_base", "nf4": "moves_base"}
    is_adapter = False
    merges = True
    packs = True
    rate_factor = 1.0

    class Spec(base.EntrySpec):
        """What moves."""

        kind: Literal["freeze"] = "freeze"
        last_layers: int = setting(
            2,
            "Last layers",
            "How many layers move, counted from the output.",
            unit="layers",
            simple=True,
            ge=0,
            le=1000,
        )
        modules: str | None = setting(
            None,
            "Named parts",
            "Further weights that move: parts of their names, separated by commas, such as mlp.down_proj.",
            max_length=500,
        )
        head: bool = setting(
            False, "Output head too", "Train the layer that gives the next token; with shared embeddings those move."
        )

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        del given
        model.requires_grad_(False)
        named = dict(model.named_parameters())
        count = max((int(found[1]) + 1 for name in named if (found := LAYER.search(name))), default=0)
        for name, weight in named.items():
            weight.requires_grad_(_moves(name, spec, count) or name.startswith(NEW_HEADS))
        out = model.get_output_embeddings()
        if spec.head and out is not None:
            out.requires_grad_(True)
        if not any(weight.requires_grad for weight in named.values()):
            raise ProblemError([problem("tuner_moves_nothing", field="tuner.last_layers")])
        return model

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        count = int(facts.get("num_layers") or 0)
        sizes = {one["name"]: int(one["in"]) * int(one["out"]) for one in facts["linear_shapes"]}
        sizes |= {one["name"]: int(one["size"]) for one in facts.get("vector_shapes", ())}
        outer = {one["name"]: int(one["in"]) * int(one["out"]) for one in facts.get("outer_shapes", ())}
        moving = {name: size for name, size in (sizes | outer).items() if _moves(f"{name}.", spec, count)}
        if spec.head and outer:
            head = next((name for name in outer if name.endswith("lm_head")), next(iter(outer)))
            moving[head] = outer[head]
        return sum(moving.values())


def _moves(name: str, spec: FreezeTuner.Spec, count: int) -> bool:
    """Whether a weight with this name moves, in a model with so many layers."""
    layer = LAYER.search(name)
    parts = [part.strip() for part in (spec.modules or "").split(",") if part.strip()]
    return (layer is not None and int(layer[1]) >= count - spec.last_layers) or any(part in name for part in parts)
