"""The tuners by name."""

from __future__ import annotations

from engine.tuners.adalora import AdaloraTuner
from engine.tuners.boft import BoftTuner
from engine.tuners.freeze import FreezeTuner
from engine.tuners.full import FullTuner
from engine.tuners.full_then_lora import FullThenLoraTuner
from engine.tuners.ia3 import Ia3Tuner
from engine.tuners.ln_tuning import LnTuner
from engine.tuners.loha import LohaTuner
from engine.tuners.lokr import LokrTuner
from engine.tuners.lora import LoraTuner
from engine.tuners.oft import OftTuner
from engine.tuners.p_tuning import PTuner
from engine.tuners.prefix import PrefixTuner
from engine.tuners.prompt import PromptTuner
from engine.tuners.protocol import Tuner
from engine.tuners.vera import VeraTuner

TUNERS: dict[str, Tuner] = {
    "lora": LoraTuner(),
    "full": FullTuner(),
    "full_then_lora": FullThenLoraTuner(),
    "freeze": FreezeTuner(),
    "adalora": AdaloraTuner(),
    "ia3": Ia3Tuner(),
    "prefix": PrefixTuner(),
    "prompt": PromptTuner(),
    "p_tuning": PTuner(),
    "ln_tuning": LnTuner(),
    "oft": OftTuner(),
    "boft": BoftTuner(),
    "vera": VeraTuner(),
    "lokr": LokrTuner(),
    "loha": LohaTuner(),
}
