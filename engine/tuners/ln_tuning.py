"""Norm tuning: only the gains (and shifts) of the normalisation layers move (Zhao et al. 2023)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.tuners.adapters import wrap
from engine.tuners.protocol import Given


class LnTuner:
    kind = "ln_tuning"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 20.0

    class Spec(base.EntrySpec):
        """No settings of its own."""

        kind: Literal["ln_tuning"] = "ln_tuning"

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import LNTuningConfig

        del spec
        found = [name for name, module in model.named_modules() if "norm" in type(module).__name__.lower()]
        return wrap(model, LNTuningConfig(target_modules=found, task_type=given.task))

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        del spec
        return sum(int(one["size"]) for one in facts.get("vector_shapes", ()) if _is_norm(one["name"]))


def _is_norm(name: str) -> bool:
    """Whether a vector with this name is one of a normalisation layer: `input_layernorm`, `ln_1`, `q_norm`."""
    layer = name.rsplit(".", 2)[-2]
    return "norm" in layer or layer.startswith("ln_")
