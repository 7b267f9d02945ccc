"""Full fine-tuning: every weight moves."""

from __future__ import annotations

from typing import Any, Literal

from engine.specs import base


class FullTuner:
    kind = "full"
    quantizations = ("none",)
    is_adapter = False

    class Spec(base.EntrySpec):
        """No settings of its own."""

        kind: Literal["full"] = "full"

    def prepare(self, model: Any, spec: Spec) -> Any:
        del spec
        return model.requires_grad_(True)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        del spec
        return int(facts["parameters"])
