"""VeRA: one pair of frozen random matrices for all layers, and learned factors on it (Kopiczko et al. 2024)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import Targets, names, shapes, targets_setting, wrap
from engine.tuners.protocol import Given


class VeraTuner:
    kind = "vera"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 100.0

    class Spec(base.EntrySpec):
        """Width and place."""

        kind: Literal["vera"] = "vera"
        rank: int = setting(
            256,
            "Rank",
            "Width of the shared random matrices; a layer learns only this many factors and one per output.",
            simple=True,
            ge=1,
            le=4096,
        )
        dropout: float = setting(
            0.0, "Dropout", "Share of inputs to the added matrices that is dropped at random.", ge=0.0, le=0.9
        )
        targets: Targets = targets_setting()

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import VeraConfig

        config = VeraConfig(
            r=spec.rank, vera_dropout=spec.dropout, target_modules=names(spec.targets), task_type=given.task
        )
        return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return sum(spec.rank + out for _, out in shapes(facts, spec.targets))
