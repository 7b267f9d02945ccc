"""Supervised fine-tuning: the model learns the rows' answers. Loss on answer tokens, end of turn included."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives.predicting import token_trainer
from engine.specs.base import setting
from engine.specs.objective import ObjectiveSpec


class SftObjective:
    kind = "sft"
    row_kinds = ("conversation",)
    head = "language"
    learning_rate = 2e-5
    packs = True
    curves = ()
    metric = None
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """Which tokens are trained."""

        kind: Literal["sft"] = "sft"
        train_on: Literal["assistant", "last", "flagged"] = setting(
            "assistant",
            "Trained answers",
            "assistant: every answer of a conversation; last: the last one only; flagged: those marked to be trained.",
        )
        train_on_prompt: bool = setting(
            False, "Train prompts too", "Learn the questions as well as the answers: every token carries loss."
        )
        prompt_weight: float = setting(
            1.0,
            "Weight of prompts",
            "What a token of a prompt counts beside one of an answer, where prompts are trained; 0.1 is often enough.",
            gt=0.0,
            le=1.0,
        )
        loss: Literal["nll", "dft"] = setting(
            "nll",
            "Loss",
            "nll: the usual one; dft: each token's loss times its probability, which learns less from what the model "
            "finds unlikely and generalises better on reasoning.",
        )
        neftune_alpha: float | None = setting(
            None,
            "Noise",
            "NEFTune: random noise on the embeddings while training, which can help free answers on small sets; "
            "5 is usual, empty: none.",
            gt=0.0,
            le=100.0,
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        rendered = renderer.conversation(
            row["messages"], row.get("tools"), train_on=spec.train_on, prompt_too=spec.train_on_prompt
        )
        weighs = spec.train_on_prompt and spec.prompt_weight < 1
        fitted = [part for one in rendered for part in one.fit(room.or_else("cut_end"))]
        return [part.weighted_columns() if weighs else part.sft_columns() for part in fitted]

    def trainer(self, parts: Any) -> Any:
        chosen = parts.spec.objective
        dynamic, weight = chosen.loss == "dft", chosen.prompt_weight
        return token_trainer(parts, noise=chosen.neftune_alpha, dynamic=dynamic, prompt_weight=weight)
