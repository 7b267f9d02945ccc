"""Prompt tuning: learned embeddings before the text, nothing else (Lester et al. 2021)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import wrap
from engine.tuners.protocol import Given


class PromptTuner:
    kind = "prompt"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = False
    packs = False
    rate_factor = 500.0

    class Spec(base.EntrySpec):
        """Length of the prompt, and what it starts as."""

        kind: Literal["prompt"] = "prompt"
        num_virtual_tokens: int = setting(
            20, "Virtual tokens", "Length of the learned prompt.", unit="tokens", simple=True, ge=1, le=1024
        )
        text: str | None = setting(
            None,
            "Starts as",
            "A text whose embeddings the prompt starts as, repeated or cut to its length; empty: random words.",
            max_length=2000,
        )

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        import torch
        from peft import PromptTuningConfig

        config = PromptTuningConfig(
            num_virtual_tokens=spec.num_virtual_tokens, prompt_tuning_init="SAMPLE_VOCAB", task_type=given.task
        )
        words = model.get_input_embeddings()
        made = wrap(model, config)
        if spec.text:
            ids = given.tokenizer(spec.text, add_special_tokens=False)["input_ids"]
            ids = (ids * -(-spec.num_virtual_tokens // len(ids)))[: spec.num_virtual_tokens]
            with torch.no_grad():
                start = words(torch.tensor(ids, device=words.weight.device))
                made.prompt_encoder["default"].embedding.weight.copy_(start)
        return made

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return spec.num_virtual_tokens * int(facts["hidden_size"])
