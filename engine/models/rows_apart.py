"""Several rows in one sequence without padding, none of which sees another. Child processes only.

The attention runs on each row for itself, so that its cost is that of the rows, not of their sum squared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

ATTENTION = "atelier_rows_apart"
_FULL = {"full_attention", "sliding_attention"}


def rows_apart(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    row_lengths: Sequence[int],
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row; query, key and value are (1, heads, tokens, width)."""
    del module, attention_mask
    shared = query.shape[1] != key.shape[1]
    lengths = list(row_lengths)
    parts = zip(*(torch.split(tensor, lengths, dim=2) for tensor in (query, key, value)), strict=True)
    seen = [
        functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, dropout_p=dropout, enable_gqa=shared
        )
        for q, k, v in parts
    ]
    return torch.cat(seen, dim=2).transpose(1, 2), None


AttentionInterface.register(ATTENTION, rows_apart)


def keeps_rows_apart(model: Any, longest: int) -> bool:
    """Whether this model's rows can share a sequence: all that mixes tokens is plain causal attention.

    A window that is shorter than the longest row, a recurrent state or a cap on the attention's logits is not.
    """
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    capped = getattr(config, "attn_logit_softcapping", None)
    kinds = set(getattr(config, "layer_types", None) or ())
    exchangeable = model._supports_attention_backend and model.config._attn_implementation in ("sdpa", ATTENTION)
    plain = not kinds - _FULL and not capped and not model._is_stateful
    return bool(exchangeable and plain and (not window or window >= longest))
