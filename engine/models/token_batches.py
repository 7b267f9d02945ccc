"""Rows of tokens as batches: one long sequence without padding, or rows of equal length. Child processes only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, chain, pairwise
from typing import Any

import torch

from engine.data.packing import place_of
from engine.data.rendered import NOT_TRAINED

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TokenBatches:
    """Makes a batch of rows with `input_ids` and `labels`.

    A batch has `input_ids`, `labels` (−100 where nothing is trained, and at each row's first token, which nothing
    predicts), `weights` of the labels, `tasks` (places in `task_types`), `row_sizes` (the tokens of each token's row),
    and what the model needs to keep rows apart.
    """

    apart: bool
    """Whether rows share one sequence; else they are padded."""
    pad_id: int
    task_types: Sequence[str]
    prompt_weight: float = 1.0
    """What a prompt's token counts beside an answer's, where prompts are trained."""

    def __call__(self, rows: Sequence[Row]) -> dict[str, Any]:
        single = [one for row in rows for one in self._single(row)]
        made = self._in_one(single) if self.apart else self._padded(single)
        made["num_tokens"] = sum(len(row["input_ids"]) for row in single)
        return made

    def _single(self, row: Row) -> Iterable[dict[str, list[Any]]]:
        """The rows in a sequence, which may be packed already."""
        ids, labels = row["input_ids"], row["labels"]
        columns = {
            "input_ids": ids,
            "labels": labels,
            "weights": [self.prompt_weight if prompt else 1.0 for prompt in row.get("prompt") or [0] * len(ids)],
            "tasks": row.get("tasks") or [place_of(row.get("task_type", ""), self.task_types)] * len(ids),
        }
        for start, end in pairwise(accumulate(row.get("seq_lengths") or [len(ids)], initial=0)):
            one = {name: column[start:end] for name, column in columns.items()}
            yield {**one, "labels": [NOT_TRAINED, *one["labels"][1:]], "row_sizes": [end - start] * (end - start)}

    def _in_one(self, rows: Sequence[Row]) -> dict[str, Any]:
        lengths = [len(row["input_ids"]) for row in rows]
        made = {name: _tensor(name, [list(chain.from_iterable(row[name] for row in rows))]) for name in _KINDS}
        positions = torch.cat([torch.arange(length) for length in lengths])[None]
        return {**made, "position_ids": positions, "row_lengths": lengths}

    def _padded(self, rows: Sequence[Row]) -> dict[str, Any]:
        longest = max(len(row["input_ids"]) for row in rows)
        fill = {
            "input_ids": self.pad_id,
            "labels": NOT_TRAINED,
            "weights": 0.0,
            "tasks": len(self.task_types),
            "row_sizes": 1,
        }
        made = {
            name: _tensor(name, [[*row[name], *[fill[name]] * (longest - len(row[name]))] for row in rows])
            for name in _KINDS
        }
        ones = [[1] * len(row["input_ids"]) + [0] * (longest - len(row["input_ids"])) for row in rows]
        return {**made, "attention_mask": torch.tensor(ones)}


def in_parts(batch: Mapping[str, Any], most_tokens: int) -> list[dict[str, Any]]:
    """Cut a batch between its rows so that no part has more tokens than this; a longer row stands alone."""
    lengths = batch.get("row_lengths")
    if lengths is not None:
        ends = list(accumulate(lengths, initial=0))
        return [
            {
                name: lengths[span] if name == "row_lengths" else value[:, ends[span.start] : ends[span.stop]]
                for name, value in batch.items()
                if name != "num_tokens"
            }
            | {"num_tokens": sum(lengths[span])}
            for span in _spans(lengths, most_tokens)
        ]
    sizes = batch["attention_mask"].sum(1)
    return [
        {name: value[span, : int(sizes[span].max())] for name, value in batch.items() if name != "num_tokens"}
        | {"num_tokens": int(sizes[span].sum())}
        for span in _spans([batch["input_ids"].shape[1]] * len(sizes), most_tokens)
    ]


def _spans(lengths: Sequence[int], most: int) -> list[slice]:
    """Neighbours that together are no longer than this."""
    found, start, total = [], 0, 0
    for place, length in enumerate(lengths):
        if place > start and total + length > most:
            found.append(slice(start, place))
            start, total = place, 0
        total += length
    return [*found, slice(start, len(lengths))]


_KINDS = {
    "input_ids": torch.long,
    "labels": torch.long,
    "weights": torch.float32,
    "tasks": torch.long,
    "row_sizes": torch.float32,
}


def _tensor(name: str, values: list[list[Any]]) -> torch.Tensor:
    return torch.tensor(values, dtype=_KINDS[name])
