"""JobSpec: everything that decides a training run, and nothing else. It never changes after it was submitted."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SerializeAsAny, field_validator, model_validator

from engine.objectives import OBJECTIVES
from engine.optimizers import OPTIMIZERS
from engine.specs.base import RUN, EntrySpec, Spec, SpecError, entry_of, setting, validate, words
from engine.specs.objective import ObjectiveSpec
from engine.specs.problem import Problem, problem
from engine.tuners import TUNERS
from engine.tuners.protocol import Paced, Particular, Phased, Verbal

LOSS = "eval_loss"
MOST_VERSIONS = 2**31 - 1
"""What a store's whole numbers hold."""


class ModelPart(Spec):
    """Which weights the run starts from, and in which form they lie in memory."""

    id: str = setting(
        "starter",
        "Model",
        "The model that is trained, by its name on the Models page.",
        simple=True,
        min_length=1,
        max_length=200,
    )
    revision: str | None = setting(
        None, "Revision", "The commit of a hub model that the run is meant for; filled in at the start.", max_length=64
    )
    start_from: str | None = setting(
        None, "Start from", "An earlier run's checkpoint to go on from: JOB or JOB@STEP.", pattern=RUN
    )
    start_as: Literal["auto", "continue", "merge"] = setting(
        "auto",
        "Adapter at the start",
        "continue: the earlier run's adapter itself is trained further; merge: it is folded into its base, in float32 "
        "and then rounded to the run's number format, and a new one begins; auto: continue where kind and shape are "
        "the same, else merge.",
    )
    quantization: Literal["none", "int8", "nf4"] = setting(
        "none",
        "Quantisation",
        "Keep the base in 16 bits (none), 8 bits or 4 bits (nf4); less memory, slightly less exact.",
    )
    chat_template: Literal["auto", "chatml", "plain", "instruct"] = setting(
        "auto",
        "Chat template",
        "How a conversation is written for the model; auto takes the model's own, and for a base model that has none "
        "chatml where its tokens are known, else plain.",
    )
    dtype: Literal["auto", "bfloat16", "float32"] = setting(
        "auto",
        "Number format",
        "Format of the base's weights; auto takes bfloat16, and float32 where all weights are trained.",
    )
    add_tokens: str | None = setting(
        None,
        "New tokens",
        "Words or marks, separated by spaces, that become tokens of the model and are learned: never split, shown in "
        "answers; those that it has are only learned. A new one starts as the average of all others, in a copy of the "
        "base that the run keeps.",
        max_length=2000,
    )

    @property
    def new_tokens(self) -> tuple[str, ...]:
        """Those of `add_tokens`, each once."""
        return words(self.add_tokens)


class DataPart(Spec):
    """Which rows, and how they become tokens."""

    dataset: str = setting(
        ...,
        "Dataset",
        "The dataset that is learned from, by its name on the Data page.",
        simple=True,
        min_length=1,
        max_length=200,
    )
    version: int | None = setting(
        None,
        "Version",
        "The version of the dataset; filled in with the newest when the run is submitted.",
        ge=1,
        le=MOST_VERSIONS,
    )
    sha256: str | None = Field(
        None,
        description="The hash of the version's rows; filled in at the start, so that a name given anew is noticed.",
        max_length=64,
    )
    mix_in: str | None = setting(
        None,
        "Mixed in",
        "A second dataset, of general texts or conversations: some of its rows are trained with the others, against "
        "forgetting. Empty: none.",
        max_length=200,
    )
    mix_in_share: float = setting(
        0.2, "Share mixed in", "Share of the training rows that comes from the second dataset.", gt=0.0, lt=1.0
    )
    mix_in_version: int | None = Field(
        None, description="The version of the second dataset; filled in with the newest.", ge=1, le=MOST_VERSIONS
    )
    mix_in_sha256: str | None = Field(
        None, description="The hash of the second dataset's rows; filled in at the start.", max_length=64
    )
    eval_fraction: float = setting(
        0.1,
        "Evaluation share",
        "Share of the rows kept aside to measure the loss on rows that are not trained.",
        ge=0.0,
        le=0.5,
    )
    eval_by: Literal["row", "group", "task_type"] = setting(
        "row",
        "Kept aside by",
        "row: any rows; group: whole groups, such as a customer's rows; task_type: the same share of each task type.",
    )
    max_length: int = setting(
        512,
        "Longest row",
        "Rows longer than this are cut, left out or split; the run card counts them.",
        unit="tokens",
        simple=True,
        ge=16,
        le=131072,
    )
    truncation: Literal["auto", "cut_end", "cut_start", "drop", "split"] = setting(
        "auto",
        "Longer rows",
        "cut_end, cut_start: keep the start or the end; drop: leave the row out; split: make several sequences of it; "
        "auto: text is split, all else is cut at the end.",
    )
    packing: bool = setting(False, "Packing", "Put several short rows into one sequence; rows never see each other.")


class TrainingPart(Spec):
    """The optimiser's settings, the same for every objective and tuner."""

    epochs: float = setting(3.0, "Epochs", "How many times every row is seen.", simple=True, gt=0, le=1000)
    max_steps: int | None = setting(
        None,
        "Most steps",
        "Stop after this many optimiser steps, whatever the epochs say.",
        unit="steps",
        ge=1,
        le=10_000_000,
    )
    batch_size: int = setting(4, "Batch size", "Rows per device and forward pass.", unit="rows", ge=1, le=4096)
    gradient_accumulation: int = setting(
        2,
        "Accumulation",
        "Forward passes summed up to one optimiser step; larger steps without more memory.",
        unit="passes",
        ge=1,
        le=4096,
    )
    learning_rate: float = setting(
        ..., "Learning rate", "How far each step moves the weights.", simple=True, gt=0, le=1e12
    )
    schedule: Literal["cosine", "linear", "wsd", "polynomial", "constant"] = setting(
        "cosine", "Schedule", "How the learning rate falls after the warm-up."
    )
    warmup_ratio: float = setting(
        0.03, "Warm-up", "Share of the steps in which the learning rate rises from zero.", ge=0.0, le=1.0
    )
    warmup_steps: int | None = setting(
        None,
        "Warm-up steps",
        "The warm-up as a number of steps, in the place of the share; empty: the share counts.",
        unit="steps",
        ge=0,
        le=10_000_000,
    )
    final_rate: float = setting(
        0.0,
        "Rate at the end",
        "Share of the learning rate that is left at the last step; 0: it falls to nothing. Not for constant.",
        ge=0.0,
        lt=1.0,
    )
    decay_share: float = setting(
        0.2, "Share of the fall", "For wsd: the share of the run, at its end, in which the rate falls.", gt=0.0, le=1.0
    )
    power: float = setting(
        2.0, "Power", "For polynomial: 1 falls evenly, larger values fall faster at first.", gt=0.0, le=10.0
    )
    layer_decay: float = setting(
        1.0,
        "Rate by layer",
        "Each layer learns at this multiple of the rate of the layer above it, the embeddings least; 1: all alike.",
        gt=0.0,
        le=1.0,
    )
    weight_decay: float = setting(0.0, "Weight decay", "Pull of the weights towards zero at each step.", ge=0.0, le=1.0)
    max_grad_norm: float = setting(
        1.0, "Gradient clipping", "Gradients longer than this are shortened to it.", gt=0.0, le=1000.0
    )
    optimizer: Literal[
        "adamw",
        "adamw_8bit",
        "paged_adamw",
        "paged_adamw_8bit",
        "adafactor",
        "lion",
        "lion_8bit",
        "muon",
        "galore",
        "schedule_free",
        "sgd",
    ] = setting(
        "adamw",
        "Optimiser",
        "The rule that turns gradients into steps. 8-bit ones, Adafactor, Lion and GaLore keep less in memory; paged "
        "ones move what they keep out of a full GPU.",
    )
    ema_decay: float | None = setting(
        None,
        "Average of the weights",
        "Keep a running average of the weights, each step weighing 1 − this value (0.99: about the last 100 steps; at "
        "the start fewer). The average is what is evaluated, saved for use and exported; the weights themselves are "
        "kept beside it to resume. Empty: off.",
        gt=0.0,
        lt=1.0,
    )
    precision: Literal["auto", "bf16", "fp32"] = setting(
        "auto", "Precision", "Number format of the arithmetic; auto takes bf16 where the device has it."
    )
    gradient_checkpointing: bool = setting(
        False,
        "Gradient checkpointing",
        "Compute activations twice instead of keeping them: less memory, about a third slower.",
    )
    compile: bool = setting(
        False,
        "Compile",
        "Make code for the layers of this model at the start of each attempt: it takes its time once, then steps are "
        "quicker. Same result within rounding.",
    )
    kernels: Literal["torch", "liger"] = setting(
        "torch",
        "Kernels",
        "liger: norms, gates and rotations from the Liger package, which makes one kernel of several; needs a GPU and "
        "the package liger-kernel.",
    )
    eval_every_steps: int | None = setting(
        None,
        "Evaluate every",
        "Optimiser steps between evaluations; empty: at most ten times in a run, less often where rows are few.",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    save_every_steps: int | None = setting(
        None,
        "Save every",
        "Optimiser steps between checkpoints; empty: with each evaluation.",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    keep_checkpoints: int = setting(
        3, "Keep checkpoints", "The newest checkpoints that stay on disk; the best one always stays too.", ge=1, le=1000
    )
    keep_every_steps: int | None = setting(
        None,
        "Keep every",
        "A checkpoint is saved at every such step and stays on disk beside the newest ones; empty: none.",
        unit="steps",
        ge=1,
        le=1_000_000,
    )
    log_every_steps: int = setting(
        1, "Log every", "Optimiser steps between points of the curves.", unit="steps", ge=1, le=10_000
    )
    early_stopping_patience: int | None = setting(
        None,
        "Early stopping",
        "Stop after this many evaluations without a better result; empty: never.",
        unit="evaluations",
        ge=1,
        le=1000,
    )
    best_by: Literal["auto", "loss", "metric"] = setting(
        "auto",
        "Best by",
        "What the best checkpoint and early stopping go by: the evaluation loss, or the objective's own measure; auto: "
        "the loss, but where it says nothing, as with rewards, the measure.",
    )


class ResourcesPart(Spec):
    """What the run may use, and what happens when it is not enough."""

    devices: Literal["auto", "cpu", "cuda"] = setting(
        "auto", "Device", "Where the run computes; auto takes the GPU if there is one."
    )
    max_attempts: int = setting(
        3, "Attempts", "How often the run is tried when the machine, not the run, fails.", ge=1, le=20
    )
    on_oom: Literal["halve", "fail"] = setting(
        "halve",
        "Out of memory",
        "halve: go on with half the batch size and twice the accumulation, which learns the same; fail: end the run.",
    )


class JobSpec(Spec):
    """A training run."""

    schema_version: Literal[1] = 1
    name: str = setting("run", "Name", "How the run is called in the lists.", simple=True, min_length=1, max_length=120)
    seed: int = setting(42, "Seed", "Equal seeds give equal runs on the same machine and versions.", ge=0, le=2**31 - 1)
    model: ModelPart = Field(default_factory=ModelPart)
    data: DataPart
    objective: SerializeAsAny[ObjectiveSpec]
    tuner: SerializeAsAny[EntrySpec]
    training: TrainingPart
    resources: ResourcesPart = Field(default_factory=ResourcesPart)

    @field_validator("objective", mode="before")
    @classmethod
    def _known_objective(cls, value: Any) -> EntrySpec:
        return entry_of(value, {kind: entry.Spec for kind, entry in OBJECTIVES.items()}, "objective")

    @field_validator("tuner", mode="before")
    @classmethod
    def _known_tuner(cls, value: Any) -> EntrySpec:
        return entry_of(value, {kind: entry.Spec for kind, entry in TUNERS.items()}, "tuner")

    @model_validator(mode="after")
    def _parts_fit(self) -> JobSpec:
        kind = self.tuner.kind
        if reason := TUNERS[kind].refuses.get(self.model.quantization):
            values: dict[str, Any] = {"tuner": kind, "given": self.model.quantization, "reason": reason}
            raise SpecError(problem("tuner_needs_unquantised", field="model.quantization", **values))
        chosen = TUNERS[kind]
        if isinstance(chosen, Particular) and (found := chosen.misfits(self.tuner, self.model.quantization)):
            raise SpecError(*found)
        if found := self._of_tuner():
            raise SpecError(*found)
        if self.data.packing and not OBJECTIVES[self.objective.kind].packs:
            raise SpecError(problem("objective_cannot_pack", field="data.packing", objective=self.objective.kind))
        if self.data.packing and not TUNERS[kind].packs:
            raise SpecError(problem("tuner_cannot_pack", field="data.packing", tuner=kind))
        if self.data.truncation == "split" and not OBJECTIVES[self.objective.kind].packs:
            kind = self.objective.kind
            raise SpecError(problem("objective_cannot_split", field="data.truncation", objective=kind))
        if found := [*self.objective.misfits(self), *self._of_training()]:
            raise SpecError(*found)
        return self

    def _of_tuner(self) -> list[Problem]:
        """What of the tuner does not go together with the objective or its rows."""
        tuner, needs, found = TUNERS[self.tuner.kind], self.objective.needs(), []
        head = OBJECTIVES[self.objective.kind].head
        named: dict[str, Any] = {"tuner": self.tuner.kind, "objective": self.objective.kind}
        if not tuner.packs and (needs.places or head != "language"):
            found.append(problem("tuner_moves_places", field="tuner.kind", **named))
        if isinstance(tuner, Phased) and (needs.reference or head != "language"):
            found.append(problem("tuner_moves_start", field="tuner.kind", **named))
        if self.model.new_tokens and not isinstance(tuner, Verbal):
            found.append(problem("tuner_cannot_add_tokens", field="model.add_tokens", **named))
        averages = OPTIMIZERS[self.training.optimizer].averages or self.training.ema_decay is not None
        if isinstance(tuner, Paced) and averages:
            found.append(problem("tuner_cuts_average", field="training.ema_decay", **named))
        if self.data.mix_in is not None and head != "language":
            found.append(problem("objective_cannot_mix", field="data.mix_in", **named))
        return found

    def _of_training(self) -> list[Problem]:
        """What of the optimiser's settings does not go together."""
        training, kind, found = self.training, self.objective.kind, []
        if training.batch_size < (least := self.objective.needs().least_batch):
            needed: dict[str, Any] = {"objective": kind, "given": training.batch_size, "allowed": least}
            found.append(problem("objective_needs_batch", field="training.batch_size", **needed))
        if training.early_stopping_patience is not None and not self.data.eval_fraction:
            found.append(problem("early_stopping_needs_evaluation", field="training.early_stopping_patience"))
        if training.kernels == "liger" and self.resources.devices == "cpu":
            found.append(problem("spec_kernels_need_gpu", field="training.kernels"))
        if training.best_by == "metric" and OBJECTIVES[kind].metric is None:
            found.append(problem("objective_has_no_metric", field="training.best_by", objective=kind))
        if OPTIMIZERS[training.optimizer].averages and training.schedule != "constant":
            found.append(problem("optimizer_needs_constant", field="training.schedule", given=training.schedule))
        tuner = TUNERS[self.tuner.kind]
        if OPTIMIZERS[training.optimizer].only_whole and (tuner.is_adapter or isinstance(tuner, Phased)):
            found.append(problem("optimizer_needs_whole", field="training.optimizer", tuner=self.tuner.kind))
        if OPTIMIZERS[training.optimizer].averages and training.ema_decay is not None:
            found.append(problem("optimizer_averages_itself", field="training.ema_decay"))
        return found

    @property
    def measure(self) -> str:
        """The name, among the results of an evaluation, of what the best checkpoint is chosen by."""
        return measure_of(self.objective.kind, self.training.best_by)

    @property
    def effective_batch(self) -> int:
        """Rows per optimiser step."""
        return self.training.batch_size * self.training.gradient_accumulation


def measure_of(objective: str, best_by: str) -> str:
    """What the best checkpoint is chosen by, from two fields of a spec; the loss where there is no such objective."""
    entry = OBJECTIVES.get(objective)
    if entry is None:
        return LOSS
    wanted = entry.best_by if best_by == "auto" else best_by
    return f"eval_{entry.metric}" if wanted == "metric" else LOSS


def parse(data: dict[str, Any]) -> JobSpec:
    """Build a JobSpec from untrusted data.

    Raises:
        ProblemError: with every problem of every part.
    """
    return validate(JobSpec, data)
