"""Rows of like length meet in a batch: little padding, each row once, another order in each epoch, the same again."""

from __future__ import annotations

import random

import pytest
import torch
from datasets import Dataset

from engine.models.like_length import EvaluationBatches, LikeLength, padded_lengths

BATCH, PASSES = 4, 2
STEP = BATCH * PASSES
FACTOR = 2.5
"""By so much the share of padding falls at least: it is 0.49 at random and 0.15 here."""


@pytest.fixture(scope="module")
def lengths():
    """403 rows, a few of them long, as in real sets."""
    draw = random.Random(5)
    return [8 + int(draw.lognormvariate(3.5, 0.9)) for _ in range(403)]


def epochs(lengths, *numbers, step=STEP):
    """The order of the rows in each of these epochs."""
    found = []
    for number in numbers:
        sampler = LikeLength(lengths, step=step, seed=7)
        sampler.set_epoch(number)
        found.append(list(sampler))
    return found


def padding(lengths, order, size=BATCH):
    """Share of the places of the batches that hold no token."""
    batches = [[lengths[place] for place in order[at : at + size]] for at in range(0, len(order), size)]
    return 1 - sum(lengths) / sum(max(one) * len(one) for one in batches)


def test_padding_falls_by_a_factor(lengths):
    at_random = padding(lengths, torch.randperm(len(lengths), generator=torch.Generator().manual_seed(1)).tolist())
    for order in epochs(lengths, 0, 1, 2):
        assert padding(lengths, order) < at_random / FACTOR


@pytest.mark.parametrize("count", [1, 7, 8, 9, 31, 400, 403])
def test_each_row_comes_once_in_an_epoch(lengths, count):
    for order in epochs(lengths[:count], 0, 1):
        assert sorted(order) == list(range(count))


def test_epochs_differ_in_their_order_and_in_which_rows_meet(lengths):
    first, second = epochs(lengths, 0, 1)
    steps = [{frozenset(one[at : at + STEP]) for at in range(0, len(one), STEP)} for one in (first, second)]
    assert first != second
    assert len(steps[0] & steps[1]) < len(steps[0]) / 4
    assert epochs(lengths, 1) == [second], "the same for one who begins there"


def test_lengths_have_no_trend_over_the_epoch(lengths):
    thirds = [[], [], []]
    for order in epochs(lengths, *range(200)):
        for place, row in enumerate(order):
            thirds[3 * place // len(order)].append(lengths[row])
    means = [sum(one) / len(one) for one in thirds]
    assert max(means) / min(means) < 1.08


def test_of_two_answers_the_longer_counts_and_of_a_sequence_its_tokens():
    pairs = [{"prompt_ids": [1] * 3, "chosen_ids": [1], "rejected_ids": [1] * n, "task_type": "a"} for n in (1, 9)]
    assert padded_lengths(Dataset.from_list(pairs)) == [4, 12]
    assert padded_lengths(Dataset.from_list([{"input_ids": [1] * 5, "labels": [1] * 5}])) == [5]


def test_a_batch_of_an_evaluation_is_of_one_task_type(lengths):
    names = [random.Random(n).choice(["a", "b", "rare"]) for n in range(len(lengths))]
    rows = [{"input_ids": [1] * length, "task_type": name} for length, name in zip(lengths, names, strict=True)]
    data = Dataset.from_list(rows)
    found = EvaluationBatches.of(data, BATCH, ("a", "b"), padded_lengths(data))
    assert sorted(place for one in found for place in one) == list(range(len(rows)))
    for places, task in zip(found.places, found.tasks, strict=True):
        assert {names[place] for place in places} == {task or "rare"}
    assert padding(lengths, [place for one in found for place in one]) < 0.1
