"""How much a model's answers depend on each of its weights: the diagonal of the empirical Fisher matrix."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from engine.models.agreement import Row


def measure(model: Any, rows: Sequence[Row], *, seen: Callable[[], None]) -> dict[str, Any]:
    """The mean over rows of the squared gradient of the log-likelihood of a row's answer tokens, by weight.

    In memory are the weights, their gradients and the sums: three times the weights in float32.
    """
    import torch

    model.requires_grad_(True).eval()
    found = {name: torch.zeros_like(value) for name, value in model.named_parameters()}
    for row in rows:
        seen()
        model.zero_grad(set_to_none=True)
        _likelihood(model, row).backward()
        for name, value in model.named_parameters():
            if value.grad is not None:
                found[name] += value.grad**2
    return {name: value / len(rows) for name, value in found.items()}


def _likelihood(model: Any, row: Row) -> Any:
    """The log-likelihood of the answer tokens of a row, summed."""
    import torch

    ids = torch.tensor([row.ids], device=model.device)
    trained = torch.tensor(row.trained, device=model.device)[1:]
    logits = model(input_ids=ids).logits[0, :-1].float()
    chosen = torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]
    return chosen[trained].sum()


def keep(importance: dict[str, Any], path: Path) -> None:
    """Write what was measured to a safetensors file."""
    from safetensors.torch import save_file

    save_file({name: value.cpu().contiguous() for name, value in importance.items()}, str(path))
