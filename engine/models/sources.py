"""What an export is made from: a base as the run saw it, its adapter, its tokenizer. Child processes only."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.exporters.heads import CLASS, Head
from engine.models import template as templates
from engine.models.copying import CONFIGS, PLAIN, sanitise
from engine.models.loading import dequantised, load_adapter, load_model, quantizer_settings

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"
GENERATION = "generation_config.json"


@dataclass(frozen=True, slots=True)
class Source:
    """A checkpoint and its base. `original` asks for the base's own 16-bit weights instead of the dequantised ones."""

    base_path: Path
    base_name: str
    quantization: str
    dtype: str
    adapter_path: Path | None
    base_id: str | None = None
    """The base's hub id, where the hub has the very weights that were trained on."""
    revision: str | None = None
    """Their commit on the hub."""
    original: bool = False
    device: str = "cpu"
    written: str = "bfloat16"
    """The 16-bit number format that whole weights are written in."""
    arithmetic: str = "bfloat16"
    """The number format that is computed in to check whole weights; 16 bits are slow where they are emulated."""
    head: Head | None = None
    """What is in the place of the language model's head; None for a language model."""

    @property
    def has_adapter(self) -> bool:
        return self.adapter_path is not None

    @property
    def quantizer(self) -> Mapping[str, Any]:
        return quantizer_settings(self.quantization, self.arithmetic if self.head else self.dtype)

    @property
    def library_class(self) -> str:
        return CLASS if self.head else "AutoModelForCausalLM"

    @property
    def _labels(self) -> tuple[str, ...]:
        return self.head.labels if self.head else ()

    def base(self) -> Any:
        load = load_model if self.original or self.quantization == "none" else dequantised
        kind = "none" if self.original else self.quantization
        how: dict[str, Any] = {"dtype": self.written, "device": self.device, "labels": self._labels}
        return self._filled(load(self.base_path, quantization=kind, **how))

    def chat_base(self) -> Any:
        how: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "labels": self._labels}
        return load_model(self.base_path, quantization=self.quantization, **how)

    def plain_base(self) -> Any:
        if self.head is None:
            return self.chat_base()
        how: dict[str, Any] = {"dtype": self.arithmetic, "device": self.device, "labels": self._labels}
        return self._filled(load_model(self.base_path, quantization=self.quantization, exact_head=False, **how))

    def _filled(self, model: Any) -> Any:
        """The model, told which token fills rows up."""
        if self.head:
            model.config.get_text_config().pad_token_id = self.head.filler
        return model

    def attach(self, model: Any) -> Any:
        assert self.adapter_path is not None
        return load_adapter(model, self.adapter_path)

    def adapter_files(self) -> dict[str, bytes | Path]:
        assert self.adapter_path is not None
        config = json.loads((self.adapter_path / ADAPTER_CONFIG).read_text(encoding="utf-8"))
        told = {**config, "base_model_name_or_path": self.base_name, "inference_mode": True}
        if self.revision is not None:
            told["revision"] = self.revision
        return {
            ADAPTER_WEIGHTS: self.adapter_path / ADAPTER_WEIGHTS,
            ADAPTER_CONFIG: json.dumps(told, indent=2, sort_keys=True).encode(),
        }

    def write_texts(self, folder: Path, *, stop_ids: Sequence[int]) -> None:
        """Put tokenizer, chat template, generation config and licence beside the weights; no trace of this machine."""
        for name in PLAIN:
            if name != "README.md" and (self.base_path / name).is_file():
                (folder / name).write_bytes((self.base_path / name).read_bytes())
        kept = templates.find(self.adapter_path) if self.adapter_path else None
        if kept and kept != templates.find(self.base_path):
            (folder / templates.FILE).write_text(kept, encoding="utf-8")
        for name in CONFIGS:
            path = folder / name if name == "config.json" else self.base_path / name
            if path.is_file() and not (self.head and name == GENERATION):
                told = sanitise(json.loads(path.read_text(encoding="utf-8")))
                if name == GENERATION:
                    told["eos_token_id"] = stop_ids[0] if len(stop_ids) == 1 else list(stop_ids)
                told |= self._of_head(name)
                (folder / name).write_text(
                    json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False), encoding="utf-8"
                )

    def _of_head(self, name: str) -> dict[str, Any]:
        """What a head needs in a configuration: its labels, however they are called, and how rows are filled up."""
        if self.head is None:
            return {}
        filled = {"pad_token": self.head.filler_text, "padding_side": "right"}
        needed: dict[str, dict[str, Any]] = {"config.json": {**self.head.names}, "tokenizer_config.json": filled}
        return needed.get(name, {})
