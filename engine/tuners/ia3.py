"""(IA)³: learned factors on keys, values and the inner activations (Liu et al. 2022)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import FEED_FORWARD_OUT, KEYS_AND_VALUES, shapes, wrap
from engine.tuners.protocol import Given


class Ia3Tuner:
    kind = "ia3"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 100.0

    class Spec(base.EntrySpec):
        """Where the factors sit."""

        kind: Literal["ia3"] = "ia3"
        feed_forward: bool = setting(
            True, "Feed-forward too", "Scale the inner activations of the feed-forward layers besides keys and values."
        )

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import IA3Config

        inner = list(FEED_FORWARD_OUT) if spec.feed_forward else []
        config = IA3Config(target_modules=[*KEYS_AND_VALUES, *inner], feedforward_modules=inner, task_type=given.task)
        return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        factors = sum(out for _, out in shapes(facts, KEYS_AND_VALUES))
        return factors + (sum(into for into, _ in shapes(facts, FEED_FORWARD_OUT)) if spec.feed_forward else 0)
