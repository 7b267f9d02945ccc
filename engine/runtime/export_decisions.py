"""The export of a head is compared label by label, or by which of two answers is the better one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from engine.data.render import Renderer
from engine.exporters.heads import Head
from engine.models.agreement import Agreement, compare
from engine.models.decisions import decisions, own_outputs, plain_outputs
from engine.models.loading import load_tokenizer
from engine.models.scoring import unused_token
from engine.models.sources import Source
from engine.runtime import held_out
from engine.runtime.building import prepare
from engine.runtime.child import Context
from engine.runtime.device import arithmetic
from engine.runtime.export_order import Order
from engine.runtime.head_rows import MIN_ROWS, JudgedRows, judged_rows, read
from engine.runtime.plain_rows import PlainRows
from engine.runtime.start import Start
from engine.specs.job import JobSpec

ASKED = {"classifier": True, "score": False}
"""Whether the head reads a conversation as a model is given it that is to answer."""


@dataclass(frozen=True, slots=True)
class DecisionCheck:
    """What the run's own model decides."""

    source: Source
    spec: JobSpec
    rows: JudgedRows
    reference: Any
    alike: int
    """The sequences that the lines for others write token for token as the run reads them."""
    compared: str
    """`labels`, or which of two answers has the better of `scores`."""
    stop_ids: Sequence[int] = ()

    @classmethod
    def of(cls, context: Context, order: Order, source: Source) -> DecisionCheck:
        """Let the run's own model decide.

        Raises:
            ProblemError: there are too few rows to compare on.
        """
        spec, tokenizer = order.run_spec, load_tokenizer(source.base_path, adapter=source.adapter_path)
        rows = judged_rows(order.version, spec, Renderer(tokenizer))
        filler, asked = unused_token(tokenizer, {token for ids in rows.ids for token in ids}), ASKED[order.target.head]
        texts = PlainRows.of(tokenizer, rows, asked=asked)
        head = Head(
            labels=_labels(context, order, source),
            filler=filler,
            filler_text=str(tokenizer.convert_ids_to_tokens(filler)),
            asked=asked,
            kept=texts.kept(spec.data),
            example=texts.example(),
        )
        headed = replace(source, head=head)
        kind, device = source.quantization, source.device
        dtype = arithmetic(source.base_path, quantization=kind, dtype=source.dtype, device=device)
        model = replace(headed, dtype=dtype).chat_base()
        if source.has_adapter:
            model = source.attach(model)
        said = decisions(own_outputs(model, rows.ids))
        return cls(headed, spec, rows, said, texts.alike(spec.data), "labels" if asked else "scores")

    def agreement(self, written: Any, folder: Path) -> Agreement:
        return compare(self.reference, decisions(plain_outputs(written, load_tokenizer(folder), self.rows.ids)))

    def same_tokens(self, folder: Path) -> bool:
        renderer = Renderer(load_tokenizer(folder))
        again = [found for row in self.rows.rows for found in read(row.said, self.spec, renderer)]
        return again == list(self.rows.rows)

    def told(self) -> dict[str, Any]:
        few = held_out.caution(self.rows.sources, "export_few_rows", MIN_ROWS)
        return {
            "compared": self.compared,
            "num_rows": len(self.rows.rows),
            "num_compared": len(self.reference),
            "num_sequences": len(self.rows.ids),
            "num_alike": self.alike,
            "rows_from": self.rows.sources,
            "caution": few.as_dict() if few else None,
        }


def _labels(context: Context, order: Order, source: Source) -> tuple[str, ...]:
    """The names of the head's outputs: a checkpoint of whole weights has them, an adapter's are those of its rows."""
    if not source.has_adapter:
        config = json.loads((source.base_path / "config.json").read_text(encoding="utf-8"))
        return tuple(name for _, name in sorted(config["id2label"].items(), key=lambda one: int(one[0])))
    begin = Start(
        base=source.base_path,
        adapter=source.adapter_path,
        quantization=source.quantization,
        dtype=source.dtype,
        is_adapter=True,
        head=order.target.head,
    )
    return prepare(context, order.run_spec, begin).labels
