"""The small trained part alone; whoever loads it needs the base as well."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from engine.exporters.protocol import Parts


class AdapterExporter:
    kind: ClassVar[str] = "adapter"
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
        return (
            "from peft import PeftModel",
            "from transformers import AutoModelForCausalLM, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({name!r})",
            f"base = AutoModelForCausalLM.from_pretrained({parts.base_name!r})",
            f"model = PeftModel.from_pretrained(base, {name!r})",
        )
