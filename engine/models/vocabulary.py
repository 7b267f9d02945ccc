"""New tokens: added to a tokenizer, with a row each in the model's embedding and output layer.

Runs in child processes only: torch and its kin are imported inside the functions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def add_tokens(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Make the tokenizer know the tokens: each is one id wherever it stands in a text, and answers show it.

    Those that it has stay what they are.
    """
    from transformers import AddedToken

    made: Any = AddedToken
    new = missing(tokenizer, tokens)
    tokenizer.add_tokens([made(token, normalized=False, special=False) for token in new])


def missing(tokenizer: Any, tokens: Sequence[str]) -> list[str]:
    """Those that the tokenizer does not have."""
    known = tokenizer.get_vocab() if tokens else {}
    return [token for token in tokens if token not in known]


def make_room(model: Any, tokenizer: Any, tokens: Sequence[str]) -> None:
    """Give each new token the average row of all tokens before: likely enough, and no louder than any other."""
    import torch

    ids = tokenizer.convert_tokens_to_ids(list(tokens))
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    layers = {id(layer.weight): layer for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    with torch.no_grad():
        for layer in layers.values():
            for rows in (layer.weight, getattr(layer, "bias", None)):
                if rows is not None:
                    rows[ids] = rows[: min(ids)].float().mean(0).to(rows.dtype)
