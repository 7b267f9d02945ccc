"""Distillation: the model comes to predict what a teacher predicts, on given answers or on its own
(Hinton et al. 2015; Agarwal et al. 2024, generalised knowledge distillation)."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from engine.objectives import sampling
from engine.specs.base import setting
from engine.specs.objective import Needs, ObjectiveSpec
from engine.specs.problem import Problem, ProblemError, problem

TRAINED = re.compile(r"\d+(@\d+)?")
BASE = "base:"


class DistillObjective:
    kind = "distill"
    row_kinds = ("conversation",)
    head = "language"
    group = "teacher"
    learning_rate = 2e-5
    packs = False
    curves = ("entropy", "completions/mean_length", "completions/clipped_ratio")
    metric = None
    best_by = "loss"

    class Spec(ObjectiveSpec):
        """Who teaches, on which answers, and how nearness is measured."""

        kind: Literal["distill"] = "distill"
        teacher: str | None = setting(
            None,
            "Teacher",
            "The model that is learned from, with the same vocabulary: one of the Models page, or an earlier run's "
            "checkpoint.",
            simple=True,
            max_length=300,
        )
        on_policy: float = setting(
            0.0,
            "Own answers",
            "Share of the steps in which the model answers itself and the teacher judges each of its tokens; in the "
            "others the rows' answers are taken.",
            simple=True,
            ge=0.0,
            le=1.0,
        )
        divergence: float = setting(
            0.0,
            "Divergence",
            "0: cover all that the teacher finds likely (forward KL); 1: keep to what it finds likeliest (reverse KL); "
            "between: a mixture of both (generalised Jensen-Shannon).",
            ge=0.0,
            le=1.0,
        )
        temperature: float = setting(
            1.0,
            "Temperature",
            "Above 1 the teacher's less likely tokens count more; own answers are drawn with it too.",
            gt=0.0,
            le=20.0,
        )
        max_new_tokens: int = setting(
            256, "Longest own answer", "An answer of its own ends here at the latest.", unit="tokens", ge=1, le=32_768
        )

        def needs(self) -> Needs:
            return Needs(samples=1, targets={"teacher": _named(self.teacher)} if self.teacher else {}, places=True)

        def misfits(self, run: Any) -> Sequence[Problem]:
            missing = [] if self.teacher else [problem("distill_no_teacher", field="objective.teacher")]
            return [*missing, *(sampling.problems(run, 1) if self.on_policy else ())]

    def tokens(self, row: dict[str, Any], renderer: Any, spec: Spec, room: Any) -> Sequence[dict[str, Any]]:
        last = max((at for at, one in enumerate(row["messages"]) if one["role"] == "assistant"), default=None)
        messages = row["messages"][: None if last is None else last + 1]
        drawn = spec.max_new_tokens if spec.on_policy else 0
        rendered = renderer.question(messages, row.get("tools"), answered=last is not None, drawn=drawn)
        marked = replace(rendered, unanswered=last is None)
        return [part.columns() for part in marked.fit(room.or_else("cut_end"))]

    def trainer(self, parts: Any) -> Any:
        from trl import DistillationConfig, DistillationTrainer

        spec, section = parts.spec, parts.spec.objective
        sampling.check_rows(parts.common["train_dataset"], spec.effective_batch)
        teacher = parts.means.other(_named(section.teacher))
        check_vocabulary(parts, teacher, section.teacher)
        sampling.stop_where_the_chat_stops(parts)
        arguments = DistillationConfig(
            **parts.arguments,
            beta=section.divergence,
            temperature=section.temperature,
            max_completion_length=section.max_new_tokens,
            disable_dropout=True,
        )
        made = parts.staged(_distilling(DistillationTrainer))
        named = {"teacher_model": teacher.model, "share": section.on_policy, "beat": parts.means.beat}
        return made(model=parts.model, args=arguments, **named, **parts.common)


def _named(teacher: str) -> str:
    """The teacher as the store resolves it: a plain name is a model's."""
    return teacher if teacher.startswith(BASE) or TRAINED.fullmatch(teacher) else f"{BASE}{teacher}"


def check_vocabulary(parts: Any, teacher: Any, name: str) -> None:
    """Refuse a teacher whose tokens are others: each of its probabilities would be taken for another token's.

    Raises:
        ProblemError: `distill_other_vocabulary`.
    """
    own, other = parts.common["processing_class"].get_vocab(), teacher.tokenizer.get_vocab()
    sizes = [model.config.get_text_config().vocab_size for model in (parts.model, teacher.model)]
    if own != other or sizes[0] != sizes[1]:
        same = len(own.items() & other.items())
        told = {"teacher": name, "own": sizes[0], "others": sizes[1], "shared": same}
        raise ProblemError([problem("distill_other_vocabulary", field="objective.teacher", **told)])


def _distilling(library: type) -> type:
    """Wrap TRL's trainer, which always answers itself: it takes the rows' answers in a share of the steps."""

    class Distilling(sampling.sampling(library, lambda _trainer: 1)):  # type: ignore[misc]
        """Learns from a teacher. Evaluations are on the rows' answers, so that they can be compared."""

        def __init__(self, *positional: Any, share: float, **named: Any) -> None:
            super().__init__(*positional, **named)
            self._share = share
            self._given: list[list[int]] = []

        def groups_evaluation(self) -> bool:
            return True

        def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> Any:
            self._given = [list(row["answer"]) for row in inputs]
            return super()._generate_and_score_completions(inputs)

        def _generate_single_turn(self, prompt_ids: list[list[int]], *rest: Any, **named: Any) -> Any:
            return super()._generate_single_turn(prompt_ids, *rest, **named) if self._answers_itself() else self._given

        def _answers_itself(self) -> bool:
            if not self.model.training:
                return False
            return self._share > 0 if self.trying else random.random() < self._share  # noqa: S311  no secret

    return Distilling
