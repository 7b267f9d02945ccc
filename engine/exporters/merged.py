"""Whole weights in 16 bits, the adapter merged in: loads anywhere without anything else.

Never merged in place into quantised weights: rounding back to 4 bits swallows the adapter. Even bfloat16, with 8 bits
of precision, rounds the small change of a short run visibly; float16 has 11.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from engine.exporters.heads import reading
from engine.exporters.protocol import Parts

SHARD = "4GB"


class MergedExporter:
    kind: ClassVar[str] = "merged"
    merges: ClassVar[bool] = True
    needs_adapter: ClassVar[bool] = False

    def formats(self, parts: Parts) -> Sequence[str]:
        return ("float16",) if parts.dtype == "float16" else ("bfloat16", "float16")

    def write(self, parts: Parts, folder: Path) -> None:
        import torch

        model = parts.base()
        if parts.has_adapter:
            model = merge(parts.attach(model))
        model.to(getattr(torch, parts.written)).save_pretrained(str(folder), max_shard_size=SHARD)

    def load_back(self, parts: Parts, folder: Path) -> Any:
        import transformers

        library = getattr(transformers, parts.library_class)
        model: Any = library.from_pretrained(str(folder), dtype=parts.arithmetic, local_files_only=True)
        return model.to(parts.device).eval()

    def lines(self, parts: Parts, name: str) -> Sequence[str]:
        # float16 overflows in the arithmetic of some architectures, and scores that are close become equal in bfloat16:
        # it is loaded as it was checked.
        exact = parts.written == "float16" or parts.head is not None
        dtype = parts.arithmetic if exact else "auto"
        library, head = parts.library_class, parts.head
        return (
            *(["import torch"] if head else []),
            f"from transformers import {library}, AutoTokenizer",
            "",
            f"tokenizer = AutoTokenizer.from_pretrained({name!r})",
            f"model = {library}.from_pretrained({name!r}, dtype={dtype!r}){'.eval()' if head else ''}",
            *(reading(head) if head else []),
        )


def merge(model: Any) -> Any:
    """Merge the adapter layer by layer in float32, rounding once; return the plain model.

    Merging in bfloat16 would round the small added part before the sum as well.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            layer: Any = module.get_base_layer()
            kind = layer.weight.dtype
            layer.to(torch.float32)
            module.merge(safe_merge=True)
            layer.to(kind)
    return model.merge_and_unload()
