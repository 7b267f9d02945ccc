"""Trainers of one objective in process: a few rows of tokens, a tiny model, no store."""

from __future__ import annotations

from functools import lru_cache
from types import SimpleNamespace

import torch

from engine.data.render import Renderer
from engine.models.loading import load_model, load_tokenizer
from engine.objectives import OBJECTIVES
from engine.objectives.protocol import Labelling
from engine.runtime.building import Frame, Rows, build, task_types
from engine.runtime.device import Device
from engine.runtime.start import Start
from engine.specs.cadence import Cadence
from engine.specs.job import parse
from engine.tuners import TUNERS
from engine.tuners.protocol import Given

STEPS = 12
GOOD, BAD, END = 300, 400, 2
"""The task: an answer begins with the one token or with the other, whatever was asked."""


def prompts(count, seed):
    """Prompts of two to four tokens, drawn at random."""
    draw = torch.Generator().manual_seed(seed)
    return [torch.randint(500, 900, (2 + place % 3,), generator=draw).tolist() for place in range(count)]


def pairs(count, seed, swapped=lambda place: False):
    """Rows of pairs; those that are `swapped` have the bad answer as the chosen one."""
    rows = []
    for place, prompt in enumerate(prompts(count, seed)):
        good, bad = [GOOD, 20, END], [BAD, 20, END]
        chosen, rejected = (bad, good) if swapped(place) else (good, bad)
        rows.append({"prompt_ids": prompt, "chosen_ids": chosen, "rejected_ids": rejected})
    return rows


def judged(count, seed, swapped=lambda place: False):
    """Rows of single answers, every other one good; those that are `swapped` are judged the wrong way."""
    rows = []
    for place, prompt in enumerate(prompts(count, seed)):
        good = place % 2 == 0
        ids = [GOOD if good else BAD, 20, END]
        rows.append({"prompt_ids": prompt, "completion_ids": ids, "label": good != swapped(place)})
    return rows


def swap_two_of_four(place):
    """Half of the good and half of the bad answers are judged the wrong way."""
    return place % 4 < 2


def swap_half(place):
    """Labels that say nothing: every other pair is the wrong way round."""
    return place % 2 == 0


def make(base, folder, objective, train, held_out, *, tuner=None, training=None, steps=STEPS, save=None):
    """The trainer of an objective as a run builds it, evaluating when it is asked to; `held_out` may be None."""
    from datasets import Dataset
    from transformers import TrainerCallback

    spec = parse(
        {
            "model": {"dtype": "float32"},
            "data": {"dataset": "rows"},
            "objective": objective,
            "tuner": tuner or {"kind": "full"},
            "training": {
                "learning_rate": 1e-3,
                "batch_size": 16,
                "gradient_accumulation": 1,
                "max_steps": steps,
                "precision": "fp32",
                "schedule": "constant",
                "warmup_ratio": 0.0,
                **(training or {}),
            },
        }
    )
    entry, tuning = OBJECTIVES[spec.objective.kind], TUNERS[spec.tuner.kind]
    tokenizer, renderer = _reading(base)
    data, evaluation = (rows and Dataset.from_list(rows) for rows in (train, held_out))
    labels = tuple(entry.labels(data)) if isinstance(entry, Labelling) else ()
    kinds = task_types(data) if "task_type" in data.column_names else ()
    torch.manual_seed(3)
    given = Given("SEQ_CLS" if labels else "CAUSAL_LM", steps, data, tokenizer)
    model = tuning.prepare(load_model(base, dtype="float32", labels=labels), spec.tuner, given)
    begin = Start(base, None, "none", "float32", tuning.is_adapter, entry.head)
    cadence = Cadence(steps, None, 1_000_000)
    rows = Rows(tokenizer, renderer, base, data, evaluation, [], [], {}, cadence, labels, kinds)
    frame = Frame(spec, Device("cpu", False), begin, folder, cache=folder / "references")
    keep = save or (lambda step, write: None)
    return build(frame, model=model, rows=rows, save=keep, watch=TrainerCallback(), measure_start=False)


@lru_cache
def _reading(base):
    tokenizer = load_tokenizer(base)
    return tokenizer, Renderer(tokenizer)


def learned(trainer, *, weight=1.0):
    """Train, with the loss multiplied by `weight`, and return the figures on the held-out rows before and after."""
    before = trainer.evaluate()
    plain = trainer.compute_loss
    if weight != 1.0:
        trainer.compute_loss = lambda *given, **named: plain(*given, **named) * weight
    trainer.train()
    trainer.compute_loss = plain
    return before, trainer.evaluate()


def saying(log_probs):
    """A model whose answer tokens have these log-probabilities: float64, one row for each sequence of the batch."""

    def model(**named):
        assert named["fused_lm_head"]
        other = torch.zeros_like(log_probs)
        top = torch.zeros_like(log_probs, dtype=torch.bool)
        return SimpleNamespace(log_probs=log_probs, entropy=other, mean_logits=other, is_top1=top)

    return model


def sides():
    """Three pairs of answers of other lengths with random log-probabilities; float64."""
    from engine.objectives.pair_trainer import Sides

    draw = torch.Generator().manual_seed(5)
    lengths = torch.tensor([[2, 4, 3], [3, 1, 3]])
    chosen, rejected = -2.5 * torch.rand(2, 3, generator=draw, dtype=torch.float64) * lengths
    return Sides(chosen, rejected, *lengths)
