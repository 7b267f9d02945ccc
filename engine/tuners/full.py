"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.tuners.protocol import Given


class FullTuner:
    kind = "full"
    refuses: ClassVar[Mapping[str, str]] = {"int8": "moves_base", "nf4": "moves_base"}
    is_adapter = False
    merges = True
    packs = True
    rate_factor = 1.0
    learns_new_tokens: ClassVar[Literal[True]] = True

    class Spec(base.EntrySpec):
        """No settings of its own."""

        kind: Literal["full"] = "full"

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        del spec, given
        return model.requires_grad_(True)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        del spec
        return int(facts["parameters"])
