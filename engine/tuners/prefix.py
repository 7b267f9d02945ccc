"""Prefix tuning: learned keys and values that every layer sees before the text (Li & Liang 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import shapes, wrap
from engine.tuners.protocol import Given


class PrefixTuner:
    kind = "prefix"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = False
    packs = False
    rate_factor = 250.0

    class Spec(base.EntrySpec):
        """Length of the prefix."""

        kind: Literal["prefix"] = "prefix"
        num_virtual_tokens: int = setting(
            20, "Virtual tokens", "Length of the learned prefix.", unit="tokens", simple=True, ge=1, le=1024
        )

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import PrefixTuningConfig

        return wrap(model, PrefixTuningConfig(num_virtual_tokens=spec.num_virtual_tokens, task_type=given.task))

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return spec.num_virtual_tokens * sum(out for _, out in shapes(facts, ("k_proj", "v_proj")))
