"""Reward model: a head that scores answers, from pairs (Bradley and Terry 1952; Ouyang et al. 2022) or from scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from engine.objectives.answers import pairs, single
from engine.objectives.scores import score_trainer
from engine.specs.base import setting
from engine.specs.objective import ObjectiveSpec
from engine.specs.problem import ProblemError, problem


class RewardObjective:
    kind = "reward"
    row_kinds = ("preference", "unpaired")
    head = "score"
    learning_rate = 1e-5
    packs = False
    curves = ("accuracy", "margin", "mean_reward")
    metric = None
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """How the scores are kept in place."""

        kind: Literal["reward"] = "reward"
        centring: float = setting(
            0.01,
            "Centring",
            "How strongly the scores of a pair are drawn to zero on average: pairs tell only differences. Rows with "
            "scores do not need it.",
            ge=0.0,
            le=1.0,
        )

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        del spec
        if "chosen" in row:
            return [one.whole_columns() for one in pairs(row, renderer, room, self.kind)]
        if row.get("score") is None:
            raise ProblemError([problem("row_no_score", field="data.dataset")])
        return [one.whole_columns(score=float(row["score"])) for one in single(row, renderer, room, self.kind)]

    def labels(self, train: Any) -> Sequence[str]:
        del train
        return ("score",)

    def trainer(self, parts: Any) -> Any:
        from trl import RewardConfig, RewardTrainer

        from engine.data.render import Renderer
        from engine.models.scoring import padding_id

        class PretokenisedRewardTrainer(RewardTrainer):
            """The rows arrive as tokens: what the token view shows is what is trained."""

            def _prepare_dataset(self, dataset: Any, *arguments: Any, **named: Any) -> Any:
                del arguments, named
                return dataset

        tokenizer = parts.common["processing_class"]
        padding = tokenizer.convert_ids_to_tokens(padding_id(tokenizer, Renderer(tokenizer)))
        arguments = RewardConfig(
            **parts.arguments,
            max_length=None,
            pad_token=padding,
            disable_dropout=False,
            center_rewards_coefficient=parts.spec.objective.centring or None,
        )
        named = {"model": parts.model, "args": arguments, **parts.common}
        if "score" in parts.common["train_dataset"].column_names:
            return score_trainer(parts, PretokenisedRewardTrainer, named)
        return parts.staged(PretokenisedRewardTrainer)(**named)
