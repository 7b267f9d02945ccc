"""After a run: the base's and the tuned model's answers to a few held-out rows, side by side."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.runtime.building import Rows
from engine.runtime.child import Context
from engine.specs.job import JobSpec

NUM_ROWS = 5
MAX_NEW_TOKENS = 96


def compare(
    context: Context, spec: JobSpec, model: Any, rows: Rows, *, should_stop: Callable[[], bool]
) -> list[dict[str, Any]]:
    """Answer up to five held-out rows (else evaluation rows) greedily with and without the tuning.

    Returns rows of `prompt` (the last user message), `expected`, `base` and `tuned`; fewer when asked to stop.
    """
    chosen = _questions(rows)
    if not chosen:
        return []
    tuned = [_answer(model, rows, messages) for messages, _ in _until(chosen, should_stop)]
    base = _base_answers(context, spec, model, rows, [messages for messages, _ in chosen[: len(tuned)]], should_stop)
    return [
        {"prompt": messages[-1]["content"], "expected": expected, "base": before, "tuned": after}
        for (messages, expected), before, after in zip(chosen, base, tuned, strict=False)
    ]


def _questions(rows: Rows) -> list[tuple[list[dict[str, Any]], str]]:
    import pyarrow.parquet as pq

    indices = (rows.test_indices or rows.eval_indices)[:NUM_ROWS]
    table = pq.read_table(rows.version_path).take(indices).to_pylist() if indices else []
    return [_question(row) for row in table]


def _question(row: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    if row.get("chosen"):
        return _plain(row["prompt"]), row["chosen"][-1]["content"]
    messages = row["messages"]
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    return _plain(messages[:last]), messages[last]["content"]


def _plain(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _until(items: list[Any], should_stop: Callable[[], bool]) -> Any:
    for item in items:
        if should_stop():
            return
        yield item


def _answer(model: Any, rows: Rows, messages: list[dict[str, Any]]) -> str:
    import torch

    model.eval()
    prompt = torch.tensor([rows.renderer.prompt(messages)], device=model.device)
    with torch.inference_mode():
        out = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            use_cache=True,
        )
    return str(rows.tokenizer.decode(out[0, prompt.shape[1] :], skip_special_tokens=True)).strip()


def _base_answers(
    context: Context, spec: JobSpec, model: Any, rows: Rows, questions: list[Any], should_stop: Callable[[], bool]
) -> list[str]:
    if hasattr(model, "disable_adapter"):
        with model.disable_adapter():
            return [_answer(model, rows, messages) for messages in _until(questions, should_stop)]
    from engine.models.loading import load_model
    from storage import models

    with context.store.read() as session:
        folder = Path(models.get(session, spec.model.id).path)
    gc.collect()
    base = load_model(folder, dtype="bfloat16", device=model.device.type)
    return [_answer(base, rows, messages) for messages in _until(questions, should_stop)]
