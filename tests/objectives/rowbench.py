"""An objective's own trainer on a tiny model, in this process: for tests that ask whether it learns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import AutoTokenizer

from engine.data.render import Renderer
from engine.data.room import Room
from engine.models.loading import load_model
from engine.objectives import OBJECTIVES
from engine.runtime.device import Device
from engine.runtime.parts import TrainerParts, arguments
from engine.specs.cadence import Cadence
from engine.specs.job import parse


@dataclass
class Bench:
    """What a trainer is made of."""

    model: Path
    folder: Path
    steps: int = 60
    learning_rate: float = 3e-3
    batch_size: int = 8

    def spec(self, objective: dict[str, Any]) -> Any:
        training = {
            "learning_rate": self.learning_rate, "max_steps": self.steps, "batch_size": self.batch_size,
            "gradient_accumulation": 1, "precision": "fp32", "schedule": "constant", "warmup_ratio": 0.0,
        }  # fmt: skip
        whole = {"data": {"dataset": "d"}, "objective": objective, "tuner": {"kind": "full"}, "training": training}
        return parse(whole)

    def tokens(self, objective: dict[str, Any], rows: list[dict[str, Any]]) -> Dataset:
        """The rows as the objective has them trained."""
        renderer = Renderer(AutoTokenizer.from_pretrained(self.model))
        spec = self.spec(objective)
        entry = OBJECTIVES[objective["kind"]]
        made = [dict(one) for row in rows for one in entry.tokens(row, renderer, spec.objective, Room(512))]
        return Dataset.from_list([{**one, "task_type": ""} for one in made])

    def trainer(self, objective: dict[str, Any], train: list[dict[str, Any]], held_out: list[dict[str, Any]]) -> Any:
        """The objective's trainer with all weights of the tiny model."""
        spec = self.spec(objective)
        named = arguments(spec, Device("cpu", bf16=False), self.folder, Cadence(self.steps, None, 10**6))
        common = {
            "train_dataset": self.tokens(objective, train),
            "eval_dataset": self.tokens(objective, held_out),
            "processing_class": AutoTokenizer.from_pretrained(self.model),
            "callbacks": [],
        }
        model = load_model(self.model, dtype="float32").requires_grad_(True)
        parts = TrainerParts(
            spec, model, {**named, "save_strategy": "no"}, common, lambda kind: kind,
            goes_on=False, cache=self.folder, reference=lambda: load_model(self.model, dtype="float32").requires_grad_(False),
        )  # fmt: skip
        return OBJECTIVES[objective["kind"]].trainer(parts)
