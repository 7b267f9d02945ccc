"""The small trained part alone; whoever loads it needs the base as well."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from engine.exporters.protocol import Parts


class AdapterExporter:
    kind: ClassVar[str] = "adapter"
    merges: ClassVar[bool] = False
    needs_adapter: ClassVar[bool] = True

    def formats(self, parts: Parts) -> Sequence[str]:
        del parts
        return ("float32",)  # as the adapter was trained and stored

    def write(self, parts: Parts, folder: Path) -> None:
        for name, content in parts.adapter_files().items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                shutil.copyfile(content, folder / name)

    def load_back(self, parts: Parts, folder: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(parts.chat_base(), str(folder)).eval()

    def lines(self, parts: Parts, name: str) -> Sequence[str]:
        """The base is loaded as it was trained on and checked: its very weights, quantised the same way."""
        named = {"revision": parts.revision} if parts.revision else {}
        arguments = [f"{key}={value!r}" for key, value in {**named, "dtype": parts.dtype}.items()]
        classes, quantized = ["AutoModelForCausalLM", "AutoTokenizer"], []
        if parts.quantizer:
            classes.append("BitsAndBytesConfig")
            settings = ", ".join(f"{key}={value!r}" for key, value in parts.quantizer.items())
            quantized.append(f"quantized = BitsAndBytesConfig({settings})")
            arguments.append("quantization_config=quantized")
        return (
            "from peft import PeftModel",
            f"from transformers import {', '.join(classes)}",
            "",
            *_base_lines(parts),
            *quantized,
            f"tokenizer = AutoTokenizer.from_pretrained({name!r})",
            f"base = AutoModelForCausalLM.from_pretrained(base_model, {', '.join(arguments)})",
            f"model = PeftModel.from_pretrained(base, {name!r})",
        )


def _base_lines(parts: Parts) -> Sequence[str]:
    if parts.base_id is not None:
        return (f"base_model = {parts.base_id!r}",)
    return (
        f"# The base is {parts.base_name!r}.",
        "# Put the folder of exactly these weights here; others of a similar name are other numbers.",
        "base_model = 'folder/of/the/base'",
    )
