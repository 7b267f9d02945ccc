"""The objectives by name."""

from __future__ import annotations

from engine.objectives.classify import ClassifyObjective
from engine.objectives.cpo import CpoObjective
from engine.objectives.distill import DistillObjective
from engine.objectives.dpo import DpoObjective
from engine.objectives.grpo import GrpoObjective
from engine.objectives.kto import KtoObjective
from engine.objectives.orpo import OrpoObjective
from engine.objectives.pretrain import PretrainObjective
from engine.objectives.protocol import Objective
from engine.objectives.reward import RewardObjective
from engine.objectives.rloo import RlooObjective
from engine.objectives.sft import SftObjective
from engine.objectives.simpo import SimpoObjective

OBJECTIVES: dict[str, Objective] = {
    "sft": SftObjective(),
    "dpo": DpoObjective(),
    "pretrain": PretrainObjective(),
    "orpo": OrpoObjective(),
    "simpo": SimpoObjective(),
    "cpo": CpoObjective(),
    "kto": KtoObjective(),
    "reward": RewardObjective(),
    "classify": ClassifyObjective(),
    "grpo": GrpoObjective(),
    "rloo": RlooObjective(),
    "distill": DistillObjective(),
}
