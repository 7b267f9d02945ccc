"""After a run: the base's and the tuned model's answers to a few held-out rows, side by side."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from engine.data.rows import read_rows
from engine.models.serving import stop_ids, stopping
from engine.runtime.building import Rows
from engine.runtime.child import Context
from engine.runtime.device import arithmetic
from engine.specs.job import JobSpec
from engine.tuners import TUNERS
from engine.tuners.protocol import Phased

Question = tuple[list[dict[str, Any]], str | None, str]
NUM_ROWS = 5
MAX_NEW_TOKENS = 96
ROWS_AT_ONCE = 4
"""So many rows of full length are answered together at most: without gradients they need less than one that trains."""


def compare(
    context: Context, spec: JobSpec, model: Any, rows: Rows, *, should_stop: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Answer up to five held-out rows (else evaluation rows) greedily with and without the tuning.

    Returns rows of `prompt` (the last user message), `expected`, `base` and `tuned`; none when asked to stop.
    """
    chosen = _questions(rows)
    if not chosen:
        return []
    answers = partial(
        _answers,
        rows=rows,
        questions=[(messages, tools) for messages, tools, _ in chosen],
        most_tokens=ROWS_AT_ONCE * spec.data.max_length,
        should_stop=should_stop,
    )
    tuned = answers(model)
    if not tuned:
        return []
    base = _base_answers(context, spec, model, answers)
    return [
        {"prompt": messages[-1]["content"], "expected": expected, "base": before, "tuned": after}
        for (messages, _tools, expected), before, after in zip(chosen, base, tuned, strict=False)
    ]


def _questions(rows: Rows) -> list[Question]:
    indices = (rows.test_indices or rows.eval_indices)[:NUM_ROWS]
    found = [row for index in indices for row in read_rows(rows.version_path, index, 1)]
    return [_question(row) for row in found if "text" not in row and row.get("label") is not False]


def _question(row: dict[str, Any]) -> Question:
    """What the model is asked, the tools that it has, and the row's own answer."""
    if answer := row.get("chosen") or row.get("completion"):
        return row["prompt"], row.get("tools"), answer[-1]["content"]
    messages = row["messages"]
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    return messages[:last], row.get("tools"), messages[last]["content"]


def _answers(
    model: Any, rows: Rows, questions: list[Any], *, most_tokens: int, should_stop: Callable[[], bool]
) -> list[str]:
    """Answer the questions, several at once: the weights are read once for all of them, and reading is what takes time.

    None when asked to stop.
    """
    prompts = [rows.renderer.prompt(messages, tools) for messages, tools in questions]
    at_once = max(1, most_tokens // (max(map(len, prompts)) + MAX_NEW_TOKENS))
    told: list[str] = []
    for first in range(0, len(prompts), at_once):
        told += _batch(model, rows, prompts[first : first + at_once], should_stop)
        if should_stop():
            return []
    return told


def _batch(model: Any, rows: Rows, prompts: list[list[int]], should_stop: Callable[[], bool]) -> list[str]:
    import torch

    longest = max(map(len, prompts))
    stops = stop_ids(rows.tokenizer, model.generation_config, rows.renderer)
    ids = torch.tensor([[stops[0]] * (longest - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    model.eval()
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            use_cache=True,
            eos_token_id=stops,
            pad_token_id=stops[0],
            stopping_criteria=[stopping(should_stop)],
        )
    return [_text(rows, row, stops) for row in out[:, longest:].tolist()]


def _text(rows: Rows, answer: list[int], stops: list[int]) -> str:
    """An answer up to its end: what fills a shorter one up behind that need not be a special token."""
    end = next((place for place, token in enumerate(answer) if token in stops), len(answer))
    return str(rows.tokenizer.decode(answer[:end], skip_special_tokens=True)).strip()


def _base_answers(context: Context, spec: JobSpec, model: Any, answers: Callable[[Any], list[str]]) -> list[str]:
    if hasattr(model, "disable_adapter") and not isinstance(TUNERS[spec.tuner.kind], Phased):
        with model.disable_adapter():
            return answers(model)
    from engine.models.loading import load_model
    from storage import models

    with context.store.read() as session:
        folder = Path(models.get(session, spec.model.id).path)
    gc.collect()
    device = model.device.type
    dtype = arithmetic(folder, quantization="none", dtype="bfloat16", device=device)
    return answers(load_model(folder, dtype=dtype, device=device))
