"""The objectives by name."""

from __future__ import annotations

from engine.objectives.distill import DistillObjective
from engine.objectives.dpo import DpoObjective
from engine.objectives.grpo import GrpoObjective
from engine.objectives.pretrain import PretrainObjective
from engine.objectives.protocol import Objective
from engine.objectives.rloo import RlooObjective
from engine.objectives.sft import SftObjective

OBJECTIVES: dict[str, Objective] = {
    "sft": SftObjective(),
    "dpo": DpoObjective(),
    "pretrain": PretrainObjective(),
    "grpo": GrpoObjective(),
    "rloo": RlooObjective(),
    "distill": DistillObjective(),
}
