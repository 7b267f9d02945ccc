"""How far one model is from another on given answers, token by token after the true text. Child processes only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

MIN_TOKENS = 500
MAX_TOKENS = 1500
MEMORY_BYTES = 512 * 2**20


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens of a row and which of them are the answer's."""

    ids: tuple[int, ...]
    trained: tuple[bool, ...]

    @property
    def num_answer_tokens(self) -> int:
        """Answer tokens that are predicted from something before them."""
        return sum(self.trained[1:])


@dataclass(frozen=True, slots=True)
class Agreement:
    """Share of answer tokens with the same likeliest token, and mean KL(reference || candidate) in nats."""

    num_tokens: int
    top1: float
    kl: float


def tokens_wanted(vocab_size: int, device: str) -> int:
    """Answer tokens to compare on: more than `MIN_TOKENS` where it is quick, as far as memory allows."""
    if device == "cpu":
        return MIN_TOKENS
    return max(MIN_TOKENS, min(MAX_TOKENS, MEMORY_BYTES // (4 * vocab_size)))


def log_probabilities(model: Any, rows: Sequence[Row]) -> Any:
    """Log-probabilities of the whole vocabulary at each answer token of the rows, as float32 on the CPU."""
    import torch

    found = []
    with torch.inference_mode():
        for row in rows:
            ids = torch.tensor([row.ids], device=model.device)
            places = torch.tensor([place for place in range(len(row.ids) - 1) if row.trained[place + 1]])
            logits = _logits(model, ids, places.to(model.device))
            found.append(torch.log_softmax(logits.float(), dim=-1).cpu())
    return torch.cat(found)


def _logits(model: Any, ids: Any, places: Any) -> Any:
    """Logits at some places; where the architecture allows it, the others' are not computed (a third of the time)."""
    import torch

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    named = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    if "logits_to_keep" in signature(inner.forward).parameters:
        return model(**named, logits_to_keep=places).logits[0]
    return model(**named).logits[0, places]


def compare(reference: Any, candidate: Any) -> Agreement:
    """Compare two results of `log_probabilities` on the same rows."""
    import torch

    same = torch.tensor(0.0, dtype=torch.float64)
    total = torch.tensor(0.0, dtype=torch.float64)
    for left, right in zip(reference.split(64), candidate.split(64), strict=True):
        same += (left.argmax(-1) == right.argmax(-1)).sum()
        total += (left.double().exp() * (left.double() - right.double())).sum()
    count = len(reference)
    kl = float(total) / count
    return Agreement(count, float(same) / count, 0.0 if kl < 0 else kl)  # rounding goes below 0; NaN stays NaN
