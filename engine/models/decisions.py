"""What a head of labels or scores decides: as it was trained, and as the plain library says. Child processes only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

AT_ONCE = 2
"""Rows that the library computes together, so that its way of filling up is a part of what is compared."""
Ids = Sequence[int]


def own_outputs(model: Any, rows: Sequence[Ids]) -> Any:
    """The head's outputs at the last token of each row, as float32 on the CPU."""
    import torch

    from engine.models.labelling import padded, read_last

    read_last(model)
    with torch.inference_mode():
        batches = ({name: one.to(model.device) for name, one in padded([row], 0).items()} for row in rows)
        return torch.cat([model(**batch).logits.float().cpu() for batch in batches])


def plain_outputs(model: Any, tokenizer: Any, rows: Sequence[Ids]) -> Any:
    """The same from the library alone, several rows at a time, filled up by the tokenizer."""
    import torch

    found = []
    with torch.inference_mode():
        for first in range(0, len(rows), AT_ONCE):
            given = {"input_ids": [list(row) for row in rows[first : first + AT_ONCE]]}
            batch = tokenizer.pad(given, return_tensors="pt").to(model.device)
            found.append(model(**batch).logits.float().cpu())
    return torch.cat(found)


def decisions(outputs: Any) -> Any:
    """Log-probabilities of the labels of each row; of scores, of which of two rows, one after the other, is better.

    That of the better one is the model of Bradley and Terry (1952).
    """
    import torch

    if outputs.shape[1] == 1:
        outputs = outputs[: len(outputs) // 2 * 2].view(-1, 2)
    return torch.log_softmax(outputs, dim=-1)
