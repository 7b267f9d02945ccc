"""How the objectives that predict tokens get their trainer."""

from __future__ import annotations

from typing import Any

from engine.tuners import TUNERS


def token_trainer(parts: Any, **settings: Any) -> Any:
    """Build the trainer of `engine/models/token_trainer.py`; `settings` are fields of its `TokenSettings`."""
    from transformers import TrainingArguments

    from engine.models.token_trainer import AT_ONCE_ON_CPU, TokenSettings, TokenTrainer

    spec = parts.spec
    at_once = AT_ONCE_ON_CPU if parts.arguments["use_cpu"] else None
    packs = TUNERS[spec.tuner.kind].packs
    tokens = TokenSettings(packs, spec.data.max_length, parts.task_types, at_once=at_once, **settings)
    arguments = TrainingArguments(**parts.arguments, remove_unused_columns=False)
    return parts.staged(TokenTrainer)(model=parts.model, args=arguments, tokens=tokens, **parts.common)
