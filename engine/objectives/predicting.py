"""How the objectives that predict tokens get their trainer."""

from __future__ import annotations

from typing import Any

from engine.tuners import TUNERS


def token_trainer(parts: Any, **settings: Any) -> Any:
    """Build the trainer of `engine/models/token_trainer.py`; `settings` are fields of its `TokenSettings`."""
    from transformers import TrainingArguments

    from engine.models.token_trainer import TokenSettings, TokenTrainer

    spec = parts.spec
    tokens = TokenSettings(TUNERS[spec.tuner.kind].packs, spec.data.max_length, parts.task_types, **settings)
    arguments = TrainingArguments(**parts.arguments, remove_unused_columns=False)
    return parts.staged(TokenTrainer)(model=parts.model, args=arguments, tokens=tokens, **parts.common)
