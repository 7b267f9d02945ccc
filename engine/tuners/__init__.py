"""The tuners by name."""

from __future__ import annotations

from engine.tuners.full import FullTuner
from engine.tuners.lora import LoraTuner
from engine.tuners.protocol import Tuner

TUNERS: dict[str, Tuner] = {"lora": LoraTuner(), "full": FullTuner()}
