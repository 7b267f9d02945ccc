"""Checkpoints and the targets that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from storage import checkpoints, jobs, targets
from storage.errors import Conflict, NotFound
from storage.jobs import Claim
from storage.models import Model

Call = Callable[..., Any]
ON_NF4 = "/models/starter|nf4|bfloat16"


def test_checkpoints_are_listed_by_step(running: Claim, write: Call, read: Call, new_checkpoint: Call) -> None:
    for step in (20, 10):
        write(checkpoints.add, running, new_checkpoint(step))
    listed = read(checkpoints.listing, running.job_id)
    assert [one.step for one in listed] == [10, 20]
    assert (listed[0].base_key, listed[0].token, listed[0].is_adapter) == (ON_NF4, running.token, True)
    assert read(checkpoints.get, running.job_id, 10) == listed[0]
    assert read(jobs.events, running.job_id)[-1].data == {"step": 10, "bytes": 10}


def test_a_step_saved_anew_replaces_the_old_row(running: Claim, write: Call, read: Call, new_checkpoint: Call) -> None:
    write(checkpoints.add, running, new_checkpoint(10, eval_loss=1.0))
    write(checkpoints.add, running, new_checkpoint(10, path="/runs/1/2/checkpoint-10"))
    (only,) = read(checkpoints.listing, running.job_id)
    assert (only.path, only.eval_loss) == ("/runs/1/2/checkpoint-10", None)


def test_the_best_has_the_least_loss_and_else_is_the_last(
    running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    assert read(checkpoints.best, running.job_id) is None
    for step in (10, 20, 30, 40):
        write(checkpoints.add, running, new_checkpoint(step))
    assert read(checkpoints.best, running.job_id).step == 40
    for step, loss in ((10, 0.7), (20, 0.5), (30, 0.5)):
        write(checkpoints.add, running, new_checkpoint(step, eval_loss=loss))
    assert read(checkpoints.best, running.job_id).step == 30


def test_a_removed_checkpoint_is_not_found(running: Claim, write: Call, read: Call, new_checkpoint: Call) -> None:
    made = write(checkpoints.add, running, new_checkpoint(10))
    write(checkpoints.remove, made.id)
    with pytest.raises(NotFound, match="1@10"):
        read(checkpoints.get, running.job_id, 10)
    with pytest.raises(NotFound):
        write(checkpoints.remove, made.id)
    assert read(checkpoints.listing, running.job_id) == []


def test_a_checkpoint_can_be_pinned(running: Claim, write: Call, read: Call, new_checkpoint: Call) -> None:
    for step in (10, 20):
        write(checkpoints.add, running, new_checkpoint(step))
    write(checkpoints.pin, running.job_id, 10)
    assert [one.pinned for one in read(checkpoints.listing, running.job_id)] == [True, False]
    with pytest.raises(NotFound, match="1@30"):
        write(checkpoints.pin, running.job_id, 30)


def test_a_pinned_checkpoint_is_not_removed(running: Claim, write: Call, read: Call, new_checkpoint: Call) -> None:
    made = write(checkpoints.add, running, new_checkpoint(10))
    write(checkpoints.pin, running.job_id, 10)
    with pytest.raises(NotFound):
        write(checkpoints.remove, made.id)
    assert read(checkpoints.get, running.job_id, 10).pinned


def test_a_base_is_a_target_without_an_adapter(model: Model, read: Call) -> None:
    found = read(targets.resolve, "base:starter")
    assert (found.base_path, found.quantization, found.dtype) == ("/models/starter", "none", "float32")
    assert (found.adapter_path, found.job_id, found.step, found.model_id) == (None, None, None, model.id)
    chosen = read(targets.resolve, "base:starter", quantization="nf4", dtype="bfloat16")
    assert chosen.base_key == ON_NF4


def test_a_job_stands_for_its_best_checkpoint(
    model: Model, running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    for step, loss in ((10, 0.5), (20, 0.9)):
        write(checkpoints.add, running, new_checkpoint(step, eval_loss=loss))
    found = read(targets.resolve, "1")
    assert (found.text, found.adapter_path, found.base_key) == ("1@10", "/runs/1/1/checkpoint-10", ON_NF4)
    assert found == read(targets.resolve, "1@10")
    assert (found.job_id, found.step, found.model_id) == (1, 10, model.id)
    assert read(targets.resolve, "1@20").step == 20


def test_a_fully_tuned_checkpoint_is_its_own_base(
    model: Model, running: Claim, write: Call, read: Call, new_checkpoint: Call
) -> None:
    write(checkpoints.add, running, new_checkpoint(10, is_adapter=False, quantization="none"))
    found = read(targets.resolve, "1@10")
    assert (found.base_path, found.adapter_path, found.model_id) == ("/runs/1/1/checkpoint-10", None, model.id)


def test_a_base_key_can_be_taken_apart() -> None:
    key = checkpoints.base_key("/models/a|b", "nf4", "bfloat16")
    assert targets.parse_key(key) == ("/models/a|b", "nf4", "bfloat16")


@pytest.mark.parametrize("text", ["", "run", "1@", "@3", "1@x", "-1", "1@2@3", "../1", "9" * 30, "77", "1@5", "base:x"])
def test_targets_that_do_not_exist_are_not_found(text: str, running: Claim, read: Call) -> None:
    with pytest.raises(NotFound):
        read(targets.resolve, text)


def test_a_job_without_a_checkpoint_says_so(running: Claim, read: Call) -> None:
    with pytest.raises(Conflict, match="no_checkpoint"):
        read(targets.resolve, "1")
