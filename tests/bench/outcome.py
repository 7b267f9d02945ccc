"""Does training help? The ticket sample and the preference sample, default settings, several seeds.

`python -m tests.bench.outcome [--seeds 1 2 3] [--only sft|dpo]` prints a table of held-out figures.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from engine.data.render import Renderer
from engine.models.loading import load_adapter, load_model, load_tokenizer
from engine.runtime.device import cpu_has_bf16
from storage import checkpoints
from storage.checkpoints import Checkpoint
from storage.database import open_store
from tests.bench.studio import SAMPLES, Studio, studio

MAX_NEW_TOKENS = 40
BATCH = 20


def rows_of(name: str, split: str) -> list[dict[str, Any]]:
    lines = (SAMPLES / name).read_text(encoding="utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def score(answers: list[str], rows: list[dict[str, Any]]) -> dict[str, float]:
    """Shares of the held-out rows: all three fields right, valid JSON object, and each field right."""
    wanted = [json.loads(row["messages"][-1]["content"]) for row in rows]
    found = [parsed(answer) for answer in answers]
    objects = [one if isinstance(one, dict) else {} for one in found]
    share = {
        "exact": [a == b for a, b in zip(found, wanted, strict=True)],
        "valid_json": [isinstance(a, dict) for a in found],
    }
    for field in ("category", "priority", "order"):
        share[field] = [field in a and a[field] == b[field] for a, b in zip(objects, wanted, strict=True)]
    return {name: sum(values) / len(values) for name, values in share.items()}


def generate(model: Any, tokenizer: Any, prompts: list[list[int]]) -> list[str]:
    """Greedy answers, in batches padded on the left."""
    import torch

    out = []
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        width = max(map(len, part))
        ids = torch.tensor([[tokenizer.pad_token_id] * (width - len(one)) + one for one in part])
        mask = torch.tensor([[0] * (width - len(one)) + [1] * len(one) for one in part])
        with torch.inference_mode():
            made = model.generate(input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_NEW_TOKENS)
        out += [tokenizer.decode(one[width:], skip_special_tokens=True).strip() for one in made]
    return out


def majority(rows: list[dict[str, Any]], count: int) -> list[str]:
    """The commonest value of each field of the training rows, given to every held-out row."""
    fields = [json.loads(row["messages"][-1]["content"]) for row in rows]
    by_field = {name: Counter(one[name] for one in fields).most_common(1)[0][0] for name in fields[0]}
    return [json.dumps(by_field)] * count


def newest_best(one: Studio, job_id: int) -> Checkpoint:
    store = open_store(f"sqlite:///{one.home / 'store.db'}")
    with store.read() as session:
        best = checkpoints.best(session, job_id)
    store.dispose()
    assert best is not None
    return best


def loaded(base: Path, adapter: str | None) -> Any:
    model = load_model(base, dtype="bfloat16" if cpu_has_bf16() else "float32")
    return load_adapter(model, adapter) if adapter else model


def sft(one: Studio, seeds: list[int]) -> None:
    train, test = rows_of("tickets.jsonl", "train"), rows_of("tickets.jsonl", "test")
    one.call("data", "add", str(SAMPLES / "tickets.jsonl"), "--name", "tickets")
    base = Path(one.call("model", "list")["items"][0]["path"])
    tokenizer = load_tokenizer(base)
    renderer = Renderer(tokenizer)
    prompts = [renderer.prompt(row["messages"][:-1]) for row in test]
    print(f"tickets: {len(train)} training rows, {len(test)} held out")
    show("majority", score(majority(train, len(test)), test))
    show("base", score(generate(loaded(base, None), tokenizer, prompts), test))
    for seed in seeds:
        job_id = one.train({"name": f"tickets-{seed}", "seed": seed, "data": {"dataset": "tickets"}})
        job = one.call("job", str(job_id))
        best = newest_best(one, job_id)
        seconds = seconds_of(job)
        show(
            f"tuned seed {seed} ({seconds:.0f} s, step {best.step})",
            score(generate(loaded(base, best.path), tokenizer, prompts), test),
        )


def seconds_of(job: dict[str, Any]) -> float:
    from datetime import datetime

    first, last = (datetime.fromisoformat(str(job[name])) for name in ("started_at", "finished_at"))
    return (last - first).total_seconds()


def answer_log_probability(model: Any, prompt: list[int], answer: list[int]) -> float:
    import torch

    ids = torch.tensor([prompt + answer])
    with torch.inference_mode():
        logs = model(input_ids=ids).logits.float().log_softmax(-1)
    places = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return float(logs[0, places, torch.tensor(answer)].sum())


def pair_margins(model: Any, renderer: Any, rows: list[dict[str, Any]]) -> list[float]:
    """log p(chosen) − log p(rejected) for each held-out pair."""
    margins = []
    for row in rows:
        sides = {side: [{"role": "assistant", "content": row[side]}] for side in ("chosen", "rejected")}
        pair = renderer.preference([{"role": "user", "content": row["prompt"]}], **sides).dpo_columns()
        good = answer_log_probability(model, pair["prompt_ids"], pair["chosen_ids"])
        bad = answer_log_probability(model, pair["prompt_ids"], pair["rejected_ids"])
        margins.append(good - bad)
    return margins


def dpo(one: Studio, seeds: list[int]) -> None:
    test = rows_of("preferences.jsonl", "test")
    one.call("data", "add", str(SAMPLES / "preferences.jsonl"), "--name", "preferences")
    base = Path(one.call("model", "list")["items"][0]["path"])
    renderer = Renderer(load_tokenizer(base))
    before = pair_margins(loaded(base, None), renderer, test)
    print(f"preferences: {len(test)} held-out pairs; likelier under the base: {share_positive(before):.3f}")
    for seed in seeds:
        spec = {"name": f"dpo-{seed}", "seed": seed, "data": {"dataset": "preferences"}, "objective": {"kind": "dpo"}}
        job_id = one.train(spec)
        best = newest_best(one, job_id)
        after = pair_margins(loaded(base, best.path), renderer, test)
        reward = [b - a for a, b in zip(before, after, strict=True)]
        seconds = seconds_of(one.call("job", str(job_id)))
        print(
            f"  tuned seed {seed} ({seconds:.0f} s, step {best.step}): reward accuracy {share_positive(reward):.3f} "
            f"(0.5 is chance), likelier {share_positive(after):.3f}, mean margin {statistics.mean(reward):+.2f} nats"
        )


def share_positive(values: list[float]) -> float:
    return sum(value > 0 for value in values) / len(values)


def show(name: str, figures: dict[str, float]) -> None:
    print(f"  {name:<32}" + "  ".join(f"{key} {value:.3f}" for key, value in figures.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--only", choices=["sft", "dpo"])
    arguments = parser.parse_args()
    with studio() as one:
        if arguments.only != "dpo":
            sft(one, arguments.seeds)
        if arguments.only != "sft":
            dpo(one, arguments.seeds)


if __name__ == "__main__":
    main()
