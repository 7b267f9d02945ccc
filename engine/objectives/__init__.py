"""The objectives by name."""

from __future__ import annotations

from engine.objectives.classify import ClassifyObjective
from engine.objectives.dpo import DpoObjective
from engine.objectives.pretrain import PretrainObjective
from engine.objectives.protocol import Objective
from engine.objectives.sft import SftObjective

OBJECTIVES: dict[str, Objective] = {
    "sft": SftObjective(),
    "dpo": DpoObjective(),
    "pretrain": PretrainObjective(),
    "classify": ClassifyObjective(),
}
