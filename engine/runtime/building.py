"""From a spec to the library's trainer: rows as tokens, arguments, and what a quantised base needs before step 1."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.data.packing import pack
from engine.data.plan import beyond_context
from engine.data.render import Renderer
from engine.data.tokens import TASK_TYPE
from engine.data.tokens import prepare as prepare_tokens
from engine.models.loading import load_tokenizer
from engine.objectives import OBJECTIVES
from engine.objectives.protocol import Labelling
from engine.runtime.child import Context
from engine.runtime.device import Device
from engine.runtime.optimising import optimising
from engine.runtime.parts import Means, TrainerParts, arguments
from engine.runtime.quickening import compile_layers
from engine.runtime.run_data import sources_of
from engine.runtime.staging import Save, staged
from engine.runtime.start import Start, load_reference
from engine.runtime.tuning import Tuning
from engine.specs.cadence import Cadence, cadence
from engine.specs.job import JobSpec
from engine.specs.problem import ProblemError, problem
from engine.tuners import TUNERS

MOST_TASK_TYPES = 12


@dataclass(frozen=True, slots=True)
class Rows:
    """The run's rows as tokens, and the tokenizer that made them."""

    tokenizer: Any
    renderer: Renderer
    version_path: Path
    train: Any
    evaluation: Any
    test_indices: list[int]
    eval_indices: list[int]
    counts: dict[str, Any]
    steps: Cadence
    labels: tuple[str, ...] = ()
    """The names of the outputs of the model's head; none for a language model."""
    task_types: tuple[str, ...] = ()
    """Those whose losses are told apart, the one with the most rows first."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What stays the same through an attempt."""

    spec: JobSpec
    device: Device
    begin: Start
    folder: Path
    means: Means = field(default_factory=Means)
    began_at: int = 0
    """The last step of the phase before this one."""
    cache: Path | None = None
    """Where figures of the start are kept for other attempts and runs; in the run's own folder where there is none."""


def prepare(context: Context, spec: JobSpec, begin: Start, *, seen: Callable[[], None] = lambda: None) -> Rows:
    """Turn the dataset version into token rows, stored once and read by every attempt; `seen` is called at each row.

    Raises:
        ProblemError: the dataset is gone, is another one now, holds nothing that can be trained, or has a row
            beyond the model's context.
    """
    from datasets import Dataset

    with context.store.read() as session:
        sources = sources_of(session, spec.data)
    tokenizer = load_tokenizer(begin.base, chat_template=spec.model.chat_template, adapter=begin.adapter)
    renderer = Renderer(tokenizer)
    cache = context.home.datasets / "tokens"
    found = prepare_tokens(sources.main, renderer, spec, cache, mixed_in=sources.mixed_in, seen=seen)
    if too_long := beyond_context(spec, found.counts, _context_length(begin.base)):
        raise ProblemError(too_long)
    train = Dataset.from_parquet(str(found.train_path))
    evaluation = Dataset.from_parquet(str(found.eval_path)) if found.eval_path else None
    kinds, objective = task_types(train), OBJECTIVES[spec.objective.kind]
    if spec.data.packing:
        train = pack(train, spec.data.max_length, kinds)
    steps = cadence(spec, len(train), len(evaluation) if evaluation else 0)
    return Rows(
        tokenizer,
        renderer,
        sources.main,
        train,
        evaluation,
        found.test_indices,
        found.eval_indices,
        found.counts,
        steps,
        tuple(objective.labels(train)) if isinstance(objective, Labelling) else (),
        kinds,
    )


def task_types(rows: Any) -> tuple[str, ...]:
    """The task types with the most rows, whose losses are told apart."""
    counts = Counter(rows[TASK_TYPE])
    return tuple(name for name, _ in counts.most_common(MOST_TASK_TYPES) if name)


def _context_length(base: Path) -> int | None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def build(frame: Frame, *, model: Any, rows: Rows, save: Save, watch: Any, measure_start: bool) -> Any:
    """The library's trainer, ready to train."""
    from transformers import EarlyStoppingCallback

    named = arguments(frame.spec, frame.device, frame.folder, rows.steps)
    named["eval_on_start"] = measure_start and rows.evaluation is not None
    if frame.spec.training.best_by == "metric" and rows.evaluation is None:
        raise ProblemError([problem("best_by_needs_evaluation", field="training.best_by")])
    callbacks: list[Any] = [watch]
    if frame.spec.training.early_stopping_patience:
        if rows.evaluation is None:
            raise ProblemError([problem("early_stopping_needs_evaluation", field="training.early_stopping_patience")])
        # before the watch, which saves where this one stops
        callbacks.insert(0, EarlyStoppingCallback(frame.spec.training.early_stopping_patience))
    common = {
        "train_dataset": rows.train,
        "eval_dataset": rows.evaluation,
        "processing_class": rows.tokenizer,
        "callbacks": callbacks,
    }
    objective = OBJECTIVES[frame.spec.objective.kind]
    tuning = Tuning(TUNERS[frame.spec.tuner.kind], frame.began_at)
    parts = TrainerParts(
        frame.spec,
        model,
        named,
        common,
        staged(save, tuning, optimising(frame.spec), rows.task_types),
        reference=lambda: load_reference(frame.begin, frame.device),
        goes_on=frame.begin.goes_on,
        cache=frame.cache or frame.folder,
        renderer=rows.renderer,
        means=frame.means,
        task_types=rows.task_types,
    )
    if frame.spec.training.compile:
        compile_layers(model)
    return objective.trainer(parts)
