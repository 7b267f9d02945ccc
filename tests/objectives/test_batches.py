"""Batches of a trainer: rows of like length, through a resume and smaller batches; the loss of each task type."""

from __future__ import annotations

import pytest

from engine.runtime.beginning import Beginning
from engine.specs.problem import ProblemError
from tests.fakes import byte_model
from tests.objectives.online_parts import conversations, spec_of, trainer_of
from tests.objectives.workbench import judged, make, pairs

STEPS = 12
TYPES = ("short", "long", "odd")


def typed(rows, names=TYPES):
    """The rows with task types in turn and answers of many lengths; the first column's prompt tells which row it is."""
    for number, row in enumerate(rows):
        row["prompt_ids"] = [3 + number, *row["prompt_ids"]]
        row["task_type"] = names[number % len(names)]
        for name in ("chosen_ids", "rejected_ids", "completion_ids"):
            if name in row:
                row[name] = [*row[name], *[20] * (number * 7 % 23)]
    return rows


def wholes(count, seed):
    """Rows of pairs, each answer with its prompt before it."""
    return [
        {**row, **{n: row["prompt_ids"] + row[n] for n in ("chosen_ids", "rejected_ids")}} for row in pairs(count, seed)
    ]


def training(batch, passes):
    return {"batch_size": batch, "gradient_accumulation": passes, "log_every_steps": 1}


class Quiet:
    """A watch without a store."""

    tokens = 0.0


def watched(trainer):
    """The rows of each batch that the trainer is given from now on, by the first tokens of their prompts."""
    seen, collate = [], trainer.data_collator

    def collated(rows):
        seen.append([row["prompt_ids"][0] for row in rows])
        return collate(rows)

    trainer.data_collator = collated
    return seen


def orpo(base, folder, batch=2, passes=2, save=None, **changes):
    rows, how = (typed(pairs(22, 1)), typed(pairs(10, 2))), {**training(batch, passes), **changes}
    return make(base, folder, {"kind": "orpo"}, *rows, training=how, steps=STEPS, save=save)


def test_a_resumed_trainer_goes_on_with_the_same_batches_and_points(small_model, tmp_path):
    def save(step, write):
        (tmp_path / str(step)).mkdir(exist_ok=True)
        if step == 8:  # within the second epoch, whose steps are 7 to 12, and between two points
            write(tmp_path / str(step))

    trainer = orpo(small_model, tmp_path, save=save, log_every_steps=3)
    trainer.args.save_steps = 8
    seen = watched(trainer)
    trainer.train()
    epochs = [[row for batch in seen[at : at + 11] for row in batch] for at in (0, 11)]
    assert [sorted(one) for one in epochs] == [list(range(3, 25))] * 2 and epochs[0] != epochs[1]
    again = orpo(small_model, tmp_path / "again", log_every_steps=3)
    again.add_callback(Beginning(again, Quiet(), tmp_path / "8", lambda _: None))
    seen_again = watched(again)
    again.train(resume_from_checkpoint=str(tmp_path / "8"))
    assert seen_again == seen[11 + 2 * 2 :], "six steps of the first epoch had eleven batches"
    first, second = ([one for one in made.state.log_history if "loss" in one] for made in (trainer, again))
    assert first == second and "task_loss/odd" in first[-1]


def test_smaller_batches_of_the_same_step_go_on_with_the_same_rows(small_model, tmp_path):
    orders = [list(orpo(small_model, tmp_path, *sizes)._get_train_sampler()) for sizes in ((4, 1), (2, 2), (1, 4))]
    assert orders[0] == orders[1] == orders[2]


@pytest.mark.parametrize(
    ("objective", "rows", "groups"),
    [
        ({"kind": "dpo"}, pairs, True),
        ({"kind": "dpo", "loss": "aot"}, pairs, False),
        ({"kind": "simpo"}, pairs, True),
        ({"kind": "kto"}, judged, False),
        ({"kind": "kto", "loss": "apo_zero_unpaired"}, judged, True),
    ],
    ids=["dpo", "aot", "simpo", "kto", "apo"],
)
def test_rows_are_put_together_where_the_loss_takes_each_by_itself(small_model, tmp_path, objective, rows, groups):
    made = make(small_model, tmp_path, objective, typed(rows(32, 1)), typed(rows(8, 2)), training=training(2, 2))
    assert made.groups_rows() == groups
    lengths = []
    for batch in made.get_train_dataloader():
        lengths.append(batch["attention_mask"].sum(dim=1).tolist())
    spread = sum(max(one) - min(one) for one in lengths)
    assert (spread < 60) == groups, spread


def test_where_sequences_cannot_be_shared_rows_to_predict_are_put_together_too(small_model, tmp_path):
    rows = [{"input_ids": ids, "labels": ids, "task_type": ""} for ids in ([7] * (2 + n * 7 % 23) for n in range(120))]
    loss = []
    for kind, shared in (({"kind": "full"}, True), ({"kind": "prompt"}, False)):
        made = make(small_model, tmp_path, {"kind": "sft"}, rows, rows[:11], tuner=kind, training=training(2, 2))
        assert made.groups_rows() is not shared
    for size in (1, 4, 11):
        made.args.per_device_eval_batch_size = size
        loss.append(made.evaluate()["eval_loss"])
    assert loss == pytest.approx([loss[0]] * 3, rel=1e-5)
    batches = [batch["attention_mask"].sum(dim=1) for batch in made.get_train_dataloader()]
    assert sum(int(one.max() - one.min()) for one in batches) < 120


def test_early_stopping_is_refused_where_no_row_came_to_be_kept_aside(small_model, tmp_path):
    stopping = {**training(2, 2), "early_stopping_patience": 2}
    with pytest.raises(ProblemError, match="early_stopping_needs_evaluation"):
        make(small_model, tmp_path, {"kind": "orpo"}, pairs(8, 1), None, training=stopping)


def losses_by_type(made):
    """The loss of each task type at an evaluation, and the same asked of its rows alone."""
    found = made.evaluate()
    rows = made.eval_dataset
    alone = {}
    for name in dict.fromkeys(rows["task_type"]):
        of_it = rows.select([at for at, one in enumerate(rows["task_type"]) if one == name])
        made.eval_dataset = of_it
        alone[name] = made.evaluate()["eval_loss"]
    made.eval_dataset = rows
    return found, alone


@pytest.mark.parametrize(
    ("objective", "rows"),
    [
        ({"kind": "dpo", "reference": "live"}, pairs),
        ({"kind": "orpo"}, pairs),
        ({"kind": "cpo"}, pairs),
        ({"kind": "reward"}, wholes),
        ({"kind": "kto", "loss": "apo_zero_unpaired"}, judged),
    ],
    ids=lambda one: one["kind"] if isinstance(one, dict) else "",
)
def test_an_evaluation_tells_the_loss_of_each_task_type(small_model, tmp_path, objective, rows):
    train, held_out = typed(rows(24, 1)), typed(rows(17, 2), ("short", "long", "long"))
    made = make(small_model, tmp_path, objective, train, held_out, training=training(4, 1), steps=6)
    made.train()
    found, alone = losses_by_type(made)
    told = {name: found[f"eval_task_loss/{name}"] for name in alone}
    assert told == pytest.approx(alone, rel=1e-5) and told["short"] != pytest.approx(told["long"], rel=1e-3)
    counts = {name: list(made.eval_dataset["task_type"]).count(name) for name in alone}
    mean = sum(told[name] * counts[name] for name in counts) / sum(counts.values())
    assert found["eval_loss"] == pytest.approx(mean, rel=1e-5)


def test_the_figures_of_an_evaluation_do_not_depend_on_how_rows_fall_into_batches(small_model, tmp_path):
    found = []
    for size in (1, 5, 17):
        made = orpo(small_model, tmp_path)
        made.args.per_device_eval_batch_size = size
        found.append({n: v for n, v in made.evaluate().items() if "per_second" not in n and "runtime" not in n})
    assert found[0] == pytest.approx(found[1], rel=1e-4) and found[0] == pytest.approx(found[2], rel=1e-4)


def test_training_tells_the_loss_of_each_task_type_where_rows_have_losses_of_their_own(small_model, tmp_path):
    made = orpo(small_model, tmp_path)
    made.train()
    points = [one for one in made.state.log_history if "loss" in one]
    assert {name for one in points for name in one if name.startswith("task_loss/")} == {
        f"task_loss/{name}" for name in TYPES
    }
    for one in points:
        told = [value for name, value in one.items() if name.startswith("task_loss/")]
        assert min(told) - 1e-4 <= one["loss"] <= max(told) + 1e-4


def test_in_an_evaluation_kto_asks_how_far_it_has_moved_on_rows_of_one_task_type(small_model, tmp_path):
    train, held_out = typed(judged(24, 1)), typed(judged(14, 2), ("short", "long", "long"))
    made = make(small_model, tmp_path, {"kind": "kto", "beta": 0.5}, train, held_out, training=training(4, 1), steps=6)
    tasks = {tuple(one["completion_ids"]): one["task_type"] for one in made.eval_dataset}
    for row in made.eval_dataset:
        assert tasks[tuple(row["KL_completion_ids"])] == row["task_type"]
    made.train()
    found = made.evaluate()
    told = [found[f"eval_task_loss/{name}"] for name in ("short", "long")]
    assert told[0] != told[1] and min(told) < found["eval_loss"] < max(told)


def test_a_label_heads_losses_are_told_by_task_type_in_training_and_evaluation(small_model, tmp_path):
    rows = [
        {"input_ids": [3 + n, *[500 + n % 2] * (1 + n * 7 % 23)], "label": "ab"[n % 2], "task_type": TYPES[n % 3]}
        for n in range(30)
    ]
    made = make(small_model, tmp_path, {"kind": "classify"}, rows, rows[:11], training=training(4, 1), steps=6)
    made.train()
    assert made.groups_rows()
    found, alone = losses_by_type(made)
    assert {name: found[f"eval_task_loss/{name}"] for name in alone} == pytest.approx(alone, rel=1e-5)
    assert "eval_macro_f1" in found
    names = {name for one in made.state.log_history for name in one if name.startswith("task_loss/")}
    assert names == {f"task_loss/{name}" for name in TYPES}


def test_scores_are_told_by_task_type_in_training_and_evaluation(small_model, tmp_path):
    rows = [{"input_ids": [3 + n, 9, n], "score": float(n % 4), "task_type": TYPES[n % 2]} for n in range(24)]
    made = make(small_model, tmp_path, {"kind": "reward"}, rows, rows[:8], training=training(4, 1), steps=6)
    made.train()
    found = made.evaluate()
    names = {name for one in made.state.log_history for name in one if name.startswith("task_loss/")}
    assert names == {"task_loss/short", "task_loss/long"}
    assert found["eval_loss"] == pytest.approx(
        (found["eval_task_loss/short"] + found["eval_task_loss/long"]) / 2, rel=1e-5
    )


def test_rewards_are_told_by_task_type(tmp_path):
    told = {"kind": "grpo", "num_generations": 4, "max_new_tokens": 4, "beta": 0.0}
    told["rewards"] = {"regex": {"weight": 2.0, "pattern": "[a-z]"}, "exact_match": {"weight": 1.0}}
    rows = [{**row, "task_type": TYPES[n % 2]} for n, row in enumerate(conversations())]
    made = trainer_of(spec_of(told, max_steps=2, batch_size=32), byte_model.write(tmp_path / "bytes"), tmp_path, rows)
    made.train()
    points = [one for one in made.state.log_history if "reward" in one]
    for one in points:
        assert one["reward"] == pytest.approx((one["task_reward/short"] + one["task_reward/long"]) / 2, rel=1e-5)
    assert any(one["task_reward/short"] != one["task_reward/long"] for one in points)
