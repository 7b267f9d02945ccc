"""Rows that share a sequence never see each other, and what a step learns does not depend on how rows are laid out."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from transformers import AutoTokenizer, TrainingArguments

from engine.data.packing import pack
from engine.models.by_task import TASK_LOSS
from engine.models.loading import load_model
from engine.models.rows_apart import keeps_rows_apart
from engine.models.token_trainer import TokenSettings, TokenTrainer

LENGTHS = (5, 17, 9, 30, 3, 12)


@pytest.fixture
def model(tiny_model):
    torch.manual_seed(0)
    return load_model(tiny_model, dtype="float32")


@pytest.fixture(scope="module")
def tokenizer(tiny_model):
    return AutoTokenizer.from_pretrained(tiny_model)


def rows(*lengths, task_types=("",)):
    torch.manual_seed(1)
    made = []
    for number, length in enumerate(lengths):
        ids = torch.randint(3, 49000, (length,)).tolist()
        labels = [-100 if place < length // 3 else token for place, token in enumerate(ids)]
        task_type = task_types[number % len(task_types)]
        made.append({"input_ids": ids, "labels": labels, "task_type": task_type})
    return Dataset.from_list(made)


def trainer(model, tokenizer, dataset, tmp_path, *, batch=6, share=True, **settings):
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_train_batch_size=batch, per_device_eval_batch_size=batch, use_cpu=True,
        report_to="none", disable_tqdm=True, remove_unused_columns=False, save_strategy="no",
        gradient_accumulation_steps=len(dataset) // batch or 1,
    )  # fmt: skip
    tokens = TokenSettings(share, 512, **settings)
    return TokenTrainer(
        model=model, processing_class=tokenizer, tokens=tokens, args=arguments, train_dataset=dataset,
        eval_dataset=dataset,
    )  # fmt: skip


def gradient_of(made):
    """The gradients of one step over all of the dataset's rows."""
    model = made.model
    model.train()
    batch = made.args.per_device_train_batch_size
    data = made.train_dataset
    batches = [
        made.data_collator([data[i] for i in range(at, min(at + batch, len(data)))])
        for at in range(0, len(data), batch)
    ]
    items = made._get_num_items_in_batch(batches, "cpu")
    with made._computing():
        total = sum(made.compute_loss(model, one, num_items_in_batch=items) for one in batches)
    found = torch.autograd.grad(total, list(model.parameters()))
    return total.detach(), found


def test_packed_joined_and_padded_rows_give_the_gradient_of_rows_alone(model, tokenizer, tmp_path):
    dataset = rows(*LENGTHS)
    alone = gradient_of(trainer(model, tokenizer, dataset, tmp_path, batch=1, share=False))
    joined = gradient_of(trainer(model, tokenizer, dataset, tmp_path))
    padded = gradient_of(trainer(model, tokenizer, dataset, tmp_path, share=False))
    packed = gradient_of(trainer(model, tokenizer, pack(dataset, 40), tmp_path))
    for other in (joined, padded, packed):
        torch.testing.assert_close(other, alone, atol=2e-6, rtol=1e-4)


@pytest.mark.parametrize("share", [True, False])
def test_a_batch_in_parts_gives_the_gradient_of_the_whole(model, tokenizer, tmp_path, share):
    dataset = rows(*LENGTHS)
    found, passes = [], []
    for most in (None, 40):
        made = trainer(model, tokenizer, dataset, tmp_path, share=share, at_once=most)
        forward = model.register_forward_hook(lambda _, __, out: passes.append(out.logits.shape[:2].numel()))
        batch = made.data_collator(list(dataset))
        made.current_gradient_accumulation_steps = 1
        with made._computing():
            passes.clear()
            loss = made.training_step(model, dict(batch), made._get_num_items_in_batch([batch], "cpu"))
        forward.remove()
        found.append((loss, [weight.grad.clone() for weight in model.parameters()]))
        told = made._told("train")
        assert told["num_tokens"] == sum(LENGTHS)
        model.zero_grad()
    assert len(passes) > 3 and max(passes) <= 40
    torch.testing.assert_close(found[1], found[0], atol=2e-6, rtol=1e-4)


def test_the_memory_at_once_is_that_of_a_part_or_of_the_longest_row(model, tokenizer, tmp_path):
    longest = sorted(LENGTHS, reverse=True)
    count = lambda number: sum(longest[:number])  # noqa: E731
    for most, wanted in ((None, 76), (1000, 76), (40, 40), (20, 30)):
        assert trainer(model, tokenizer, rows(*LENGTHS), tmp_path, at_once=most).most_tokens(count) == wanted


def test_a_row_sees_nothing_of_the_row_before_it(model, tokenizer, tmp_path):
    first, second = rows(20, 20), rows(20, 20)
    other = first.map(lambda row, place: {"input_ids": [7] * 20} if place == 0 else row, with_indices=True)
    made = trainer(model, tokenizer, first, tmp_path)
    losses = []
    for dataset in (second, other):
        with torch.no_grad(), made._computing():
            losses.append(made._losses(model, made.data_collator(list(dataset)), dynamic=False)[1])
    half = len(losses[0]) // 2
    assert torch.equal(losses[0][half:], losses[1][half:]) and not torch.equal(losses[0][:half], losses[1][:half])


def test_the_loss_is_the_librarys_own(model, tokenizer, tmp_path):
    dataset = rows(12)
    total, _ = gradient_of(trainer(model, tokenizer, dataset, tmp_path))
    row = dataset[0]
    theirs = model(input_ids=torch.tensor([row["input_ids"]]), labels=torch.tensor([row["labels"]])).loss
    torch.testing.assert_close(total, theirs.detach())


def test_a_model_that_caps_its_logits_is_not_given_the_chunked_loss(model, tokenizer, tmp_path):
    dataset = rows(*LENGTHS)
    forward = type(model).forward

    class Capped(type(model)):
        def forward(self, *positional, **named):
            found = forward(self, *positional, **named)
            found.logits = 3 * torch.tanh(found.logits / 3)
            return found

    model.__class__ = Capped
    made = trainer(model, tokenizer, dataset, tmp_path)
    total, _ = gradient_of(made)
    assert made._has_head is False
    row_losses = [
        torch.nn.functional.cross_entropy(
            model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1], torch.tensor(row["labels"][1:]),
            reduction="sum",
        )
        for row in dataset
    ]  # fmt: skip
    count = sum(label != -100 for row in dataset for label in row["labels"][1:])
    torch.testing.assert_close(total, (sum(row_losses) / count).detach(), atol=1e-5, rtol=1e-5)


def test_the_evaluation_is_the_mean_over_all_tokens_however_they_are_batched(model, tokenizer, tmp_path):
    dataset = rows(*LENGTHS)
    losses = [trainer(model, tokenizer, dataset, tmp_path, batch=batch).evaluate()["eval_loss"] for batch in (1, 4, 6)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6) == pytest.approx(losses[2], rel=1e-6)


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_of_each_task_type_is_that_of_its_rows(model, tokenizer, tmp_path, packed):
    dataset = rows(*LENGTHS, task_types=("sums", "words", "rare"))
    named = ("words", "sums")
    laid = pack(dataset, 40, named) if packed else dataset
    told = trainer(model, tokenizer, laid, tmp_path, task_types=named).evaluate()
    assert f"eval_{TASK_LOSS}rare" not in told
    for name in named:
        own = dataset.filter(lambda row, name=name: row["task_type"] == name)
        assert told[f"eval_{TASK_LOSS}{name}"] == pytest.approx(
            trainer(model, tokenizer, own, tmp_path).evaluate()["eval_loss"]
        )


def test_a_prompt_weighs_what_was_asked_for(model, tokenizer, tmp_path):
    row = rows(10)[0]
    row["prompt"] = [1] * 4 + [0] * 6
    row["labels"] = row["input_ids"]
    total, _ = gradient_of(trainer(model, tokenizer, Dataset.from_list([row]), tmp_path, prompt_weight=0.25))
    logits = model(input_ids=torch.tensor([row["input_ids"]])).logits[0, :-1]
    losses = torch.nn.functional.cross_entropy(logits, torch.tensor(row["labels"][1:]), reduction="none")
    weights = torch.tensor([0.25] * 3 + [1.0] * 6)
    torch.testing.assert_close(total, ((losses * weights).sum() / weights.sum()).detach(), atol=1e-5, rtol=1e-5)


def test_rows_share_no_sequence_where_attention_is_not_all_that_mixes_tokens(model):
    assert keeps_rows_apart(model, 512)
    model.config.sliding_window = 64
    assert not keeps_rows_apart(model, 512) and keeps_rows_apart(model, 64)
    model.config.sliding_window = None
    model.config.layer_types = ["full_attention", "linear_attention"]
    assert not keeps_rows_apart(model, 512)


@pytest.mark.parametrize("share", [True, False])
def test_noise_is_as_large_for_a_row_as_if_it_stood_alone(model, tokenizer, tmp_path, share):
    made = trainer(model, tokenizer, rows(4, 100), tmp_path, share=share, noise=5.0)
    batch = made.data_collator(list(made.train_dataset))
    embed = model.get_input_embeddings()
    plain = embed(batch["input_ids"])
    with made._noise(batch):
        added = (embed(batch["input_ids"]) - plain).abs()
    sizes = batch["row_sizes"]
    for size in (4.0, 100.0):
        most = added[sizes == size].max().item()
        assert most <= 5 / (size * 64) ** 0.5 * 1.001 and most > 0.9 * 5 / (size * 64) ** 0.5
    torch.testing.assert_close(embed(batch["input_ids"]), plain)
