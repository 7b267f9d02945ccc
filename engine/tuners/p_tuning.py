"""P-tuning: embeddings before the text that a small network makes (Liu et al. 2021).

The adapter's file holds what the network makes; the network itself is kept beside it, to train on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from engine.specs import base
from engine.specs.base import setting
from engine.tuners.adapters import wrap
from engine.tuners.protocol import Given

NETWORK = "network.safetensors"


class PTuner:
    kind = "p_tuning"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = False
    packs = False
    rate_factor = 50.0

    class Spec(base.EntrySpec):
        """Length of the prompt and width of the network."""

        kind: Literal["p_tuning"] = "p_tuning"
        num_virtual_tokens: int = setting(
            20, "Virtual tokens", "Length of the learned prompt.", unit="tokens", simple=True, ge=1, le=1024
        )
        width: int = setting(128, "Network width", "Width of the network that makes the prompt.", ge=8, le=8192)

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import PromptEncoderConfig

        config = PromptEncoderConfig(
            num_virtual_tokens=spec.num_virtual_tokens, encoder_hidden_size=spec.width, task_type=given.task
        )
        return wrap(model, config)

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        """The embeddings, and three layers with their biases."""
        size, width = int(facts["hidden_size"]), spec.width
        return spec.num_virtual_tokens * size + (size + 1) * width + (width + 1) * width + (width + 1) * size

    def store(self, model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(dict(self.stored(model)), str(folder / NETWORK))

    def restore(self, model: Any, folder: Path, load: Callable[[], None], *, goes_on: bool = False) -> None:
        from safetensors.torch import load_file

        del goes_on  # the network is needed in either case
        load()
        network = {name.removeprefix("network."): value for name, value in load_file(str(folder / NETWORK)).items()}
        _encoder(model).load_state_dict(network)

    def stored(self, model: Any) -> Mapping[str, Any]:
        return {f"network.{name}": value.detach().cpu() for name, value in _encoder(model).state_dict().items()}


def _encoder(model: Any) -> Any:
    return model.prompt_encoder["default"]
