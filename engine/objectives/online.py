"""What the objectives share that learn from rewards for answers which the model draws while it is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import Field

from engine.objectives import rewards, sampling
from engine.objectives.rewards import Rewards
from engine.objectives.rewards.protocol import Answer, Score
from engine.specs.base import setting
from engine.specs.objective import Needs, ObjectiveSpec
from engine.specs.problem import Problem, problem

CURVES = (
    "reward",
    "reward_std",
    "kl",
    "completions/mean_length",
    "completions/clipped_ratio",
    "frac_reward_zero_std",
)
PROMPTS_SHOWN = 4
"""Prompts of a step whose answers people can read."""


class OnlineSpec(ObjectiveSpec):
    """How answers are drawn, and what they are rewarded for."""

    num_generations: int = setting(
        8, "Group size", "Answers drawn to each prompt; they are compared with each other.", simple=True, ge=2, le=256
    )
    max_new_tokens: int = setting(
        256,
        "Longest answer",
        "An answer ends here at the latest; prompt and answer together have at most the longest row's tokens.",
        unit="tokens",
        simple=True,
        ge=1,
        le=32_768,
    )
    temperature: float = setting(
        1.0, "Temperature", "How freely answers are drawn; all alike teach nothing.", gt=0.0, le=5.0
    )
    beta: float = setting(
        0.04,
        "Hold to the start",
        "How strongly the model is held to where it starts (the weight of the KL divergence); 0: not at all.",
        ge=0.0,
        le=10.0,
    )
    updates: int = setting(
        1,
        "Updates per draw",
        "Optimiser steps made of the answers that were drawn once: more are faster, and less exact.",
        ge=1,
        le=16,
    )
    epsilon: float = setting(
        0.2,
        "Clipping",
        "How far a step may change how likely an answer is, as a share; takes effect from two updates per draw on.",
        gt=0.0,
        lt=1.0,
    )
    rewards: Rewards = Field(default_factory=Rewards)

    def needs(self) -> Needs:
        """A group of answers to each prompt, and the runs of the rewards."""
        targets = {f"rewards.{path}": text for path, text in rewards.targets(self.rewards).items()}
        return Needs(self.num_generations, self.updates, targets, reference=self.beta > 0)

    def misfits(self, run: Any) -> Sequence[Problem]:
        found = sampling.problems(run, self.num_generations)
        if run.data.truncation == "cut_end":
            found.append(problem("online_cannot_cut_end", field="data.truncation"))
        if not rewards.chosen(self.rewards):
            found.append(problem("online_no_reward", field="objective.rewards.exact_match.weight"))
        return found


def tokens(row: dict[str, Any], renderer: Any, spec: OnlineSpec, room: Any) -> Sequence[dict[str, Any]]:
    """The prompt as the chat would write it, with what the rewards look at beside it."""
    messages, reference = sampling.conversation_of(row)
    rendered = renderer.question(messages, row.get("tools"), drawn=spec.max_new_tokens)
    said = [{key: value for key, value in one.items() if value is not None} for one in messages]
    told = {"conversation": json.dumps(said, ensure_ascii=False), "reference": reference}
    return [part.columns(**told) for part in rendered.fit(room.or_else("drop"))]


def settings(spec: Any) -> dict[str, Any]:
    """The arguments that TRL's GRPO and RLOO share: what is drawn fills whole steps."""
    section = spec.objective
    return {
        "num_generations": section.num_generations,
        "num_generations_eval": 1,
        "max_completion_length": section.max_new_tokens,
        "temperature": section.temperature,
        "steps_per_generation": spec.training.gradient_accumulation,
        "num_iterations": section.updates,
        "epsilon": section.epsilon,
        "reward_weights": [one.weight for one in rewards.chosen(section.rewards).values()],
        "disable_dropout": True,
    }


def trainer(parts: Any, library: type, config: Callable[..., Any], own: dict[str, Any]) -> Any:
    """Build a trainer of TRL that learns from rewards; `own` are the arguments that it alone has.

    Raises:
        ProblemError: the rows do not fill a step, or what a reward needs is not there.
    """
    spec = parts.spec
    sampling.check_rows(parts.common["train_dataset"], spec.effective_batch // spec.objective.num_generations)
    scores = rewards.ready(spec.objective.rewards, parts.means)
    sampling.stop_where_the_chat_stops(parts)
    beta = spec.objective.beta
    reference = None if hasattr(parts.model, "peft_config") or not beta else parts.reference()
    # The library reads a reference of its own from the folder that a model names: ours may be merged from two.
    arguments = config(**parts.arguments, **settings(spec), **own, beta=0.0 if reference is not None else beta)
    made = parts.staged(_rewarded(library))
    return made(
        model=parts.model,
        args=arguments,
        reward_funcs=[_function(name, score) for name, score in scores.items()],
        beat=parts.means.beat,
        keep=parts.means.keep,
        held=(reference, beta),
        **parts.common,
    )


def _function(name: str, score: Score) -> Callable[..., list[float | None]]:
    """A reward as the library calls it, with the columns of the rows by their names."""

    def scored(
        completions: Sequence[str],
        completion_ids: Sequence[Sequence[int]],
        conversation: Sequence[str],
        reference: Sequence[str],
        **_others: Any,
    ) -> list[float | None]:
        columns = zip(conversation, completions, reference, completion_ids, strict=True)
        return list(score([Answer(json.loads(said), text, own, len(ids)) for said, text, own, ids in columns]))

    scored.__name__ = name
    return scored


def _rewarded(library: type) -> type:
    """Wrap TRL's trainer: a reference of ours, samples that people can read, and the reward of each task type."""
    import torch

    from engine.models.by_task import TASK_REWARD, add_by_task, task_places

    class Rewarded(sampling.sampling(library, lambda trainer: int(trainer.num_generations))):  # type: ignore[misc]
        """Learns from rewards."""

        def __init__(self, *positional: Any, keep: Callable[..., None], held: tuple[Any, float], **named: Any) -> None:
            super().__init__(*positional, **named)
            self._keep, (reference, beta) = keep, held
            if reference is not None:
                self._hold_to(reference, beta)

        def _hold_to(self, reference: Any, beta: float) -> None:
            from trl.trainer.utils import add_fused_lm_head

            add_fused_lm_head(reference, temperature=self.temperature)
            self.ref_model = self.accelerator.prepare_model(reference, evaluation_mode=True)
            self.beta = beta

        def _calculate_rewards(
            self, inputs: Any, prompts: Any, completions: list[str], completion_ids_list: list[list[int]]
        ) -> Any:
            if self.trying:  # what is drawn then is no answer, and no judge is asked about it
                return torch.zeros(len(prompts), len(self.reward_funcs), device=self.args.device)
            scored = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
            self._note_tasks(scored, task_places(inputs, self.task_types))
            if self.model.training and (self.state.global_step + 1) % self.args.logging_steps == 0:
                shown = PROMPTS_SHOWN * self.num_generations
                drawn = zip(inputs[:shown], completions, completion_ids_list, scored.tolist(), strict=False)
                told = [self._sample(place, *one) for place, one in enumerate(drawn)]
                self._keep(self.state.global_step + 1, told)
            return scored

        def _note_tasks(self, scored: torch.Tensor, tasks: torch.Tensor) -> None:
            """Note each answer's reward for its task type; one without any is no part of a mean."""
            given = ~scored.isnan().all(dim=1)
            figures = self._metrics["train" if self.model.training else "eval"]
            summed = (scored * self.reward_weights.to(scored.device)).nansum(dim=1)
            add_by_task(figures, summed[given], tasks[given.cpu()], self.task_types, TASK_REWARD)

        def _sample(self, place: int, row: Any, completion: str, ids: list[int], scored: list[float]) -> dict[str, Any]:
            given = [None if value != value else value for value in scored]
            weights = self.reward_weights.tolist()
            said = [weight * value for weight, value in zip(weights, given, strict=True) if value is not None]
            return {
                "question": place // self.num_generations,
                "prompt": self.processing_class.decode(row["prompt"]),
                "reference": row["reference"],
                "completion": completion,
                "num_tokens": len(ids),
                "cut": ids[-1] not in self.eos_token_ids,
                "reward": sum(said) if said else None,
                "rewards": dict(zip(self.reward_func_names, given, strict=True)),
            }

    return Rewarded
