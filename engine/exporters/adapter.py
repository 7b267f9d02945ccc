"""The small trained part alone; whoever loads it needs the base as well."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from engine.exporters.heads import reading
from engine.exporters.protocol import Parts


class AdapterExporter:
    kind: ClassVar[str] = "adapter"
    merges: ClassVar[bool] = False
    needs_adapter: ClassVar[bool] = True

    def formats(self, parts: Parts) -> Sequence[str]:
        if parts.head is None:
            return ("float32",)  # as the adapter was trained and stored
        return tuple(dict.fromkeys((parts.dtype, "float32")))  # in which the base and the head are computed

    def write(self, parts: Parts, folder: Path) -> None:
        for name, content in parts.adapter_files().items():
            if isinstance(content, bytes):
                (folder / name).write_bytes(content)
            else:
                shutil.copyfile(content, folder / name)

    def load_back(self, parts: Parts, folder: Path) -> Any:
        from peft import PeftModel

        return PeftModel.from_pretrained(parts.plain_base(), str(folder)).eval()

    def lines(self, parts: Parts, name: str) -> Sequence[str]:
        """The base is loaded as it was trained on and checked: its very weights, quantised the same way."""
        named = {"revision": parts.revision} if parts.revision else {}
        head, library = parts.head, parts.library_class
        names = {"id2label": dict(enumerate(head.labels))} if head else {}
        told = {**named, **names, "dtype": parts.arithmetic if head else parts.dtype}
        arguments = [f"{key}={value!r}" for key, value in told.items()]
        classes, quantized = [library, "AutoTokenizer"], []
        if parts.quantizer:
            classes.append("BitsAndBytesConfig")
            settings = ", ".join(f"{key}={value!r}" for key, value in parts.quantizer.items())
            quantized.append(f"quantized = BitsAndBytesConfig({settings})")
            arguments.append("quantization_config=quantized")
        return (
            *(["import torch"] if head else []),
            "from peft import PeftModel",
            f"from transformers import {', '.join(classes)}",
            "",
            *_base_lines(parts),
            *quantized,
            f"tokenizer = AutoTokenizer.from_pretrained({name!r})",
            f"base = {library}.from_pretrained(base_model, {', '.join(arguments)})",
            *(["base.config.get_text_config().pad_token_id = tokenizer.pad_token_id"] if head else []),
            f"model = PeftModel.from_pretrained(base, {name!r}){'.eval()' if head else ''}",
            *(reading(head) if head else []),
        )


def _base_lines(parts: Parts) -> Sequence[str]:
    if parts.base_id is not None:
        return (f"base_model = {parts.base_id!r}",)
    return (
        f"# The base is {parts.base_name!r}.",
        "# Put the folder of exactly these weights here; others of a similar name are other numbers.",
        "base_model = 'folder/of/the/base'",
    )
