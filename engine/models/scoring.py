"""Scores of answers by a reward model: a base with a head of one number, its adapter beside it or not.

Runs in child processes only: torch and its kin are imported inside the functions.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.data.render import Messages, Renderer
from engine.data.room import Room
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.specs.problem import ProblemError, problem

LABELS = ("score",)
"""The one output of the head."""
ROWS_AT_ONCE = 8
_PROBE = ([{"role": "user", "content": "a"}], [{"role": "assistant", "content": "b"}])


class Scorer:
    """A reward model in memory.

    Raises:
        ProblemError: `model_no_score_head`, the weights are not those of a reward model.
    """

    def __init__(
        self, base: Path, adapter: Path | None, *, quantization: str = "none", dtype: str = "float32", device: str
    ) -> None:
        _must_score(base, adapter)
        tokenizer = load_tokenizer(base, adapter=adapter)
        self._renderer = Renderer(tokenizer)
        self._padding = padding_id(tokenizer, self._renderer)
        model = load_model(base, quantization=quantization, dtype=dtype, device=device, labels=LABELS)
        self._model = load_adapter(model, adapter) if adapter is not None else model
        context = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        self._room = Room(context or Room().max_length, "cut_start")

    def scores(self, conversations: Sequence[Messages]) -> list[float]:
        """The score of the last answer of each conversation; of a conversation beyond the context its end counts.

        Raises:
            ProblemError: the chat template refuses a conversation.
        """
        return scores_of(self._model, [self._ids(one) for one in conversations], self._padding)

    def _ids(self, messages: Messages) -> list[int]:
        rendered = self._renderer.answer(messages[:-1], messages[-1:]).fit(self._room)[0]
        found: list[int] = rendered.whole_columns()["input_ids"]
        return found


def scores_of(model: Any, rows: Sequence[Sequence[int]], padding: int) -> list[float]:
    """The score of each row of ids, several at a time, the longest together."""
    import torch

    found = [0.0] * len(rows)
    places = sorted(range(len(rows)), key=lambda place: len(rows[place]))
    model.config.get_text_config().pad_token_id = padding
    for first in range(0, len(places), ROWS_AT_ONCE):
        chosen = places[first : first + ROWS_AT_ONCE]
        longest = max(len(rows[place]) for place in chosen)
        ids = [[*rows[place], *[padding] * (longest - len(rows[place]))] for place in chosen]
        mask = [[1] * len(rows[place]) + [0] * (longest - len(rows[place])) for place in chosen]
        with torch.inference_mode():
            given = {name: torch.tensor(each, device=model.device) for name, each in (("i", ids), ("m", mask))}
            out = model(input_ids=given["i"], attention_mask=given["m"], use_cache=False).logits
        for place, score in zip(chosen, out.squeeze(-1).float().tolist(), strict=True):
            found[place] = score
    return found


def padding_id(tokenizer: Any, renderer: Renderer) -> int:
    """The token to fill rows up with: one that no answer ends with.

    The library reads the score at the last token that is not this one. Many models fill up with the token that ends a
    turn: the score would be read one token before the end of the answer.
    """
    return unused_token(tokenizer, {renderer.answer(*_PROBE).answer_all[-1]})


def unused_token(tokenizer: Any, used: Collection[int]) -> int:
    """A token besides those that are used: one that is meant to fill rows up, where there is such a one."""
    usual: list[int | None] = [tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.bos_token_id]
    special = [*tokenizer.all_special_ids, *sorted(tokenizer.added_tokens_encoder.values())]
    rest = range(tokenizer.vocab_size)
    found: int = next(one for one in (*usual, *special, *rest) if one is not None and one not in used)
    return found


def _must_score(base: Path, adapter: Path | None) -> None:
    """Refuse weights without a head of one number: a new, random one would be put in its place."""
    heads = _heads_of_adapter(adapter) if adapter is not None else _heads_of_base(base)
    if not heads:
        named = (adapter or base).name
        raise ProblemError([problem("model_no_score_head", field="model.id", given=named)])


def _heads_of_adapter(folder: Path) -> list[str]:
    from safetensors import safe_open

    with safe_open(str(folder / "adapter_model.safetensors"), framework="pt") as weights:
        return [name for name in list(weights.keys()) if name.split(".")[-2] in ("score", "classifier")]


def _heads_of_base(folder: Path) -> list[str]:
    config: Mapping[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    is_one = len(config.get("id2label") or {}) == 1
    return [one for one in config.get("architectures") or () if is_one and one.endswith("ForSequenceClassification")]
