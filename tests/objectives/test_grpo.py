"""GRPO: its advantages and loss are those of the paper, it learns what is rewarded, and a killed run goes on exactly."""

from __future__ import annotations

import math

import pytest
import torch

from engine.data.render import Renderer
from engine.models.loading import load_tokenizer
from engine.models.serving import stop_ids
from engine.objectives import OBJECTIVES
from engine.runtime.beginning import Beginning, try_longest
from engine.runtime.parts import Means
from engine.specs.problem import ProblemError
from tests.fakes import byte_model
from tests.objectives.online_parts import conversations, spec_of, trainer_of
from tests.runtime.drawn import drawn
from tests.runtime.training_room import make_room

LETTER = {"regex": {"weight": 1.0, "pattern": "^[a-z]"}}
"""One token in ten begins an answer so, while nothing is learned."""
KINDS = ("grpo", "rloo")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.set_num_threads(1)
    return byte_model.write(tmp_path_factory.mktemp("models") / "bytes")


def objective(kind="grpo", **settings):
    told = {"kind": kind, "num_generations": 8, "max_new_tokens": 4, "beta": 0.0, "rewards": LETTER}
    return {**told, **settings}


class Quiet:
    tokens = 0.0


def trained(spec, base, folder, *, means=None, resume=None, save=lambda step, write: None, rewarded=None):
    """The weights and the figures of a run through all that the process does but the store."""
    trainer = trainer_of(spec, base, folder, conversations(), means=means, save=save)
    if rewarded is not None:
        trainer.reward_funcs = [rewarded(one) for one in trainer.reward_funcs]
    trainer.add_callback(Beginning(trainer, Quiet(), resume, lambda _: None))
    trainer.train(resume_from_checkpoint=str(resume) if resume else None)
    return trainer


def rewards_of(trainer):
    return [one["reward"] for one in trainer.state.log_history if "reward" in one]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_rewarded_becomes_likelier(kind, base, tmp_path):
    spec = spec_of(objective(kind), max_steps=40, learning_rate=1e-2, batch_size=32)
    found = rewards_of(trained(spec, base, tmp_path))
    assert sum(found[:5]) / 5 < 0.3
    assert sum(found[-5:]) / 5 > 0.7


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_learned_of_rewards_that_were_shuffled(kind, base, tmp_path):
    def shuffled(reward):
        def drawn_anew(**columns):
            given = reward(**columns)
            return [given[place] for place in torch.randperm(len(given)).tolist()]

        drawn_anew.__name__ = "shuffled"
        return drawn_anew

    spec = spec_of(objective(kind), max_steps=40, learning_rate=1e-2, batch_size=32)
    found = rewards_of(trained(spec, base, tmp_path, rewarded=shuffled))
    assert sum(found[-5:]) / 5 < 0.3


def test_without_a_difference_in_rewards_no_weight_moves(base, tmp_path):
    spec = spec_of(objective(rewards={"length": {"weight": 1.0, "least": 0, "most": 4}}), max_steps=2)
    trainer = trainer_of(spec, base, tmp_path, conversations())
    before = {name: weight.detach().clone() for name, weight in trainer.model.named_parameters()}
    trainer.train()
    assert all(weight.equal(before[name]) for name, weight in trainer.model.named_parameters())
    assert [one["frac_reward_zero_std"] for one in trainer.state.log_history if "reward" in one] == [1.0, 1.0]


def batch_of(trainer, advantages):
    """Two answers of three and two tokens to one prompt, with given advantages."""
    return {
        "prompt_ids": torch.tensor([[1, 50, 51], [1, 50, 51]]),
        "prompt_mask": torch.ones(2, 3, dtype=torch.long),
        "completion_ids": torch.tensor([[60, 61, 2], [62, 2, 0]]),
        "completion_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "advantages": torch.tensor(advantages),
        "num_items_in_batch": torch.tensor(5),
    }


def log_probs_of(trainer, batch):
    """The log-probability of each answer token, from the logits of a plain forward pass."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    logits = trainer.model(input_ids=ids, attention_mask=mask).logits[:, 2:-1].float()
    return logits.log_softmax(-1).gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)


AVERAGED = {
    "grpo": lambda lost, mask: ((lost * mask).sum(1) / mask.sum(1)).mean(),
    "dapo": lambda lost, mask: (lost * mask).sum() / 5,
    "bnpo": lambda lost, mask: (lost * mask).sum() / mask.sum(),
    "dr_grpo": lambda lost, mask: (lost * mask).sum() / (2 * 4),
}


@pytest.mark.parametrize("loss_type", AVERAGED)
def test_the_loss_is_that_of_the_paper(loss_type, base, tmp_path):
    """Shao et al. 2024, equation 3: -min(r A, clip(r) A) + beta KL, with KL by equation 4, which DeepSeek-V3.2
    (arXiv 2512.02556) multiplies by r; the averages are those of DAPO (2503.14476) and Dr. GRPO (2503.20783)."""
    beta, advantages = 0.5, [0.8, -1.2]
    trainer = trainer_of(spec_of(objective(loss_type=loss_type, beta=beta)), base, tmp_path, conversations())
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    batch = batch_of(trainer, advantages)
    now = log_probs_of(trainer, batch)
    before, start = now.detach() - torch.tensor([0.5, 0.1, -0.3]), now.detach() + torch.tensor([0.2, -0.4, 0.1])
    given = {**batch, "old_per_token_logps": before, "ref_per_token_logps": start}
    ratio, wanted = torch.exp(now - before), torch.tensor(advantages).unsqueeze(1)
    clipped = torch.minimum(ratio * wanted, ratio.clamp(0.8, 1.2) * wanted)
    apart = ratio * (torch.exp(start - now) - (start - now) - 1)
    mask = batch["completion_mask"].float()
    expected = AVERAGED[loss_type](-clipped + beta * apart, mask)
    found = trainer._compute_loss(trainer.model, given)
    assert found.item() == pytest.approx(expected.item(), rel=1e-4)
    (theirs,) = torch.autograd.grad(found, trainer.model.lm_head.weight)
    (ours,) = torch.autograd.grad(expected, trainer.model.lm_head.weight)
    assert torch.allclose(theirs, ours, atol=1e-5)


GIVEN = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0]


def advantages_of(trainer, given):
    """What the trainer makes of given rewards for the answers to two prompts."""
    trainer.reward_funcs = [lambda **_: given]
    trainer.model.train()
    rows = [trainer.train_dataset[place] for place in (0, 1) for _ in range(4)]
    return trainer._generate_and_score_completions(rows)["advantages"]


@pytest.mark.parametrize(
    ("scale", "divided"), [("group", [math.sqrt(2), 0.0]), ("batch", [1.0690, 1.0690]), ("none", [1.0, 1.0])]
)
def test_an_advantage_is_the_reward_less_the_mean_of_its_group(scale, divided, base, tmp_path):
    trainer = trainer_of(spec_of(objective(num_generations=4, scale_rewards=scale)), base, tmp_path, conversations())
    less = torch.tensor([0.0, -1.0, -1.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    by = torch.tensor(divided).repeat_interleave(4) + (0 if scale == "none" else 1e-4)
    assert torch.allclose(advantages_of(trainer, GIVEN), less / by, atol=1e-3)


def test_an_answer_without_any_reward_teaches_nothing_and_is_no_part_of_the_mean(base, tmp_path):
    trainer = trainer_of(spec_of(objective(num_generations=4, scale_rewards="none")), base, tmp_path, conversations())
    found = advantages_of(trainer, [None, 0.0, 1.0, 2.0, *[None] * 4])
    assert torch.allclose(found, torch.tensor([0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0]))


def test_prompts_are_the_ids_that_the_chat_gives_and_answers_end_where_its_do(base, tmp_path):
    trainer = trainer_of(spec_of(objective()), base, tmp_path, conversations())
    tokenizer = load_tokenizer(base)
    renderer = Renderer(tokenizer)
    messages = conversations()[0]["messages"]
    assert trainer.train_dataset[0]["prompt"] == renderer.prompt(messages[:-1])
    assert trainer.train_dataset[0]["reference"] == "hello"
    assert trainer.eos_token_ids == stop_ids(tokenizer, trainer.model.generation_config, renderer) == [2]
    seen = []
    trainer.model.register_forward_pre_hook(
        lambda model, _args, named: seen.append((model.training, named.get("use_cache"))), with_kwargs=True
    )
    trainer.model.train()
    trainer._generate_single_turn([trainer.train_dataset[0]["prompt"]], None, {}, 8)
    assert seen and not any(training for training, _ in seen), "dropout would answer with"
    assert trainer.model.training


def test_a_long_draw_says_at_each_token_that_it_moves(base, tmp_path):
    beats = []
    trainer = trainer_of(
        spec_of(objective()), base, tmp_path, conversations(), means=Means(beat=lambda: beats.append(1))
    )
    trainer._generate_single_turn([trainer.train_dataset[0]["prompt"]], None, {}, 8)
    assert len(beats) >= 4


def test_an_evaluation_changes_nothing_in_the_training_that_follows(base, tmp_path):
    ends = []
    for every in (None, 1):
        spec = spec_of(objective(), max_steps=4, eval_every_steps=every)
        held_out = conversations(count=2) if every else None
        trainer = trainer_of(spec, base, tmp_path / str(every), conversations(), held_out=held_out)
        trainer.train()
        ends.append([weight.detach().clone() for weight in trainer.model.parameters()])
    measured = [one["eval_reward"] for one in trainer.state.log_history if "eval_reward" in one]
    assert len(measured) == 4 and trainer.args.metric_for_best_model == "eval_reward" and trainer.args.greater_is_better
    assert all(one.equal(other) for one, other in zip(*ends, strict=True))


def test_the_memory_is_tried_with_the_longest_answers_and_nothing_of_it_stays(base, tmp_path):
    kept, asked = [], []
    means = Means(
        keep=lambda *told: kept.append(told), judge=lambda *_: lambda told: asked.extend(told) or ["5"] * len(told)
    )
    judged = {"judge": {"weight": 1.0, "url": "http://localhost:1/v1", "model": "m"}, **LETTER}
    spec = spec_of(objective(rewards=judged, max_new_tokens=7), max_steps=1)
    ends, drawn_lengths = [], []
    for tries in (False, True):
        trainer = trainer_of(spec, base, tmp_path, conversations(), means=means)
        if tries:
            real = trainer._calculate_rewards
            trainer._calculate_rewards = lambda *told, real=real: (
                drawn_lengths.append([len(ids) for ids in told[3]]),
                real(*told),
            )[1]
            kept.clear(), asked.clear()
            trainer.create_optimizer_and_scheduler(1)
            trainer._tr_loss, trainer._globalstep_last_logged = torch.tensor(0.0), 0
            try_longest(trainer)
            assert drawn_lengths == [[7] * 8] and not kept and not asked
            assert trainer._step == 0 and trainer._buffered_inputs is None and trainer.state.num_input_tokens_seen == 0
        trainer.train()
        ends.append([weight.detach().clone() for weight in trainer.model.parameters()])
    assert all(one.equal(other) for one, other in zip(*ends, strict=True))


def test_whether_memory_is_ample_is_judged_by_every_answer_at_its_longest(base, tmp_path):
    trainer = trainer_of(spec_of(objective(max_new_tokens=7), batch_size=16), base, tmp_path, conversations())
    asked = []
    assert trainer.most_tokens(lambda number: (asked.append(number), 100)[1]) == 8 * 100 + 16 * 7
    assert asked == [2]


def test_samples_are_handed_on_with_every_reward_and_the_weighted_sum(base, tmp_path):
    kept = {}
    both = {**LETTER, "length": {"weight": 0.5, "least": 0, "most": 4}}
    spec = spec_of(objective(rewards=both), max_steps=4, log_every_steps=2, batch_size=16)
    trained(spec, base, tmp_path, means=Means(keep=kept.__setitem__))
    assert list(kept) == [2, 4]
    for one in kept[4]:
        assert one["reward"] == pytest.approx(one["rewards"]["regex"] + 0.5 * one["rewards"]["length"])
        assert one["reference"] == "hello" and one["prompt"].endswith("<|im_start|>assistant\n")
        assert one["cut"] == (one["num_tokens"] == 4) or not one["cut"]
    assert [one["question"] for one in kept[4]] == [0] * 8 + [1] * 8


REFUSED = [
    ({"objective": objective(num_generations=3)}, "online_batch_not_divisible"),
    ({"objective": objective(max_new_tokens=96)}, "online_no_room"),
    ({"objective": objective(rewards={})}, "online_no_reward"),
    ({"objective": objective(), "data": {"truncation": "cut_end"}}, "online_cannot_cut_end"),
    ({"objective": objective(), "data": {"truncation": "split"}}, "objective_cannot_split"),
    ({"objective": objective(), "data": {"packing": True}}, "objective_cannot_pack"),
]


@pytest.mark.parametrize(("changes", "code"), REFUSED)
def test_what_cannot_work_is_refused_when_the_run_is_submitted(changes, code):
    with pytest.raises(ProblemError) as refused:
        spec_of(changes.pop("objective"), **changes)
    assert [one.code for one in refused.value.problems] == [code]


def test_rows_that_do_not_fill_a_step_are_refused(base, tmp_path):
    with pytest.raises(ProblemError) as refused:
        trainer_of(spec_of(objective(), batch_size=32), base, tmp_path, conversations(count=3))
    assert refused.value.problems[0].code == "data_rows_below_step"


def test_a_prompt_keeps_room_for_the_answer_and_is_left_out_or_cut_at_its_start_otherwise(base):
    from engine.data.room import Room

    entry, renderer = OBJECTIVES["grpo"], Renderer(load_tokenizer(base))
    spec = entry.Spec(max_new_tokens=16)
    (whole,) = entry.tokens(conversations()[0], renderer, spec, Room(512))
    long = len(whole["prompt"])
    (fits,) = entry.tokens(conversations()[0], renderer, spec, Room(long + 16))
    assert fits.source.usable and fits["prompt"] == whole["prompt"] and fits.source.longest == long + 16
    (beyond,) = entry.tokens(conversations()[0], renderer, spec, Room(long + 15))
    assert beyond.source.too_long and not beyond.source.usable
    (cut,) = entry.tokens(conversations()[0], renderer, spec, Room(long + 6, "cut_start"))
    assert cut["prompt"] == whole["prompt"][10:] and cut.source.truncated == 10


def test_a_pair_gives_its_prompt_with_the_chosen_answer_for_reference(base):
    from engine.data.room import Room

    row = {
        "prompt": [{"role": "user", "content": "Hi"}],
        "chosen": [{"role": "assistant", "content": "Hello"}],
        "rejected": [{"role": "assistant", "content": "No"}],
    }
    (made,) = OBJECTIVES["rloo"].tokens(row, Renderer(load_tokenizer(base)), OBJECTIVES["rloo"].Spec(), Room())
    assert made["reference"] == "Hello" and "answer" not in made and made.source.num_trained == 0


@pytest.mark.parametrize(("kind", "tuner", "updates"), [("grpo", "lora", 1), ("rloo", "full", 1), ("grpo", "full", 2)])
def test_a_resumed_run_ends_as_one_that_was_never_stopped(kind, tuner, updates, base, tmp_path):
    def saver(folder):
        def save(step, write):
            (folder / f"checkpoint-{step}").mkdir(parents=True)
            write(folder / f"checkpoint-{step}")

        return save

    told = objective(kind, beta=0.1, updates=updates)
    spec = spec_of(
        told,
        max_steps=6,
        save_every_steps=3,
        batch_size=8,
        gradient_accumulation=2,
        log_every_steps=2,
        tuner={"kind": tuner},
    )
    whole = trained(spec, base, tmp_path / "whole", save=saver(tmp_path / "whole"))
    again = trained(spec, base, tmp_path / "again", resume=tmp_path / "whole" / "checkpoint-3", save=lambda *_: None)
    ends = [[weight.detach() for weight in one.model.parameters() if weight.requires_grad] for one in (whole, again)]
    assert all(one.equal(other) for one, other in zip(*ends, strict=True))
    told = [[one for one in trainer.state.log_history if "reward" in one] for trainer in (whole, again)]
    names = ("reward", "loss", "kl", "num_tokens", "completions/mean_length", "epoch")
    assert [[one.get(name) for name in names] for one in told[0]] == [
        [one.get(name) for name in names] for one in told[1]
    ]


@pytest.mark.timeout(300)
def test_a_killed_run_goes_on_exactly_and_its_samples_are_there_while_it_trains_and_after(base, tmp_path, monkeypatch):
    with make_room(base, tmp_path, monkeypatch) as room:
        told = {
            "objective": objective(num_generations=4, max_new_tokens=16, rewards={"length": {"weight": 1.0, "least": 0, "most": 8}}),
            "data": {"max_length": 512},
            "training": {"max_steps": 8, "eval_every_steps": 4, "save_every_steps": 4, "batch_size": 4, "gradient_accumulation": 2},
        }  # fmt: skip
        whole = room.train(**told)
        assert whole.state == "succeeded", room.log(whole.id)
        killed = room.submit(**told)
        room.work(
            lambda: room.job(killed).progress_step and room.job(killed).progress_step >= 5 and drawn(room.store, killed)
        )
        assert room.job(killed).state == "running"
        seen = drawn(room.store, killed)
        room.worker.running[killed].child.kill()
        done = room.finish(killed)
        assert done.state == "succeeded", room.log(killed)
        assert len(room.attempts(killed)) == 2 and room.attempts(killed)[1].resumed_from_step == 4
        assert room.weights(killed) == room.weights(whole.id)
        names = ("reward", "loss", "kl", "eval_reward", "completions/mean_length")
        assert {name: room.curve(killed, name) for name in names} == {
            name: room.curve(whole.id, name) for name in names
        }
        after = drawn(room.store, killed)
        assert (
            list(after) == list(range(8, 0, -1))
            and seen.items() <= after.items()
            and after == drawn(room.store, whole.id)
        )
        best = [one.score for one in room.checkpoints(killed)]
        assert None not in best and best[-1] == dict(room.curve(killed, "eval_reward"))[8]
