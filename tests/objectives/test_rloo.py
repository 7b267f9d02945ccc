"""RLOO: each answer is compared with the mean of the others to its prompt, and its loss is that of the paper."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import byte_model
from tests.objectives.online_parts import conversations, spec_of, trainer_of

OBJECTIVE = {"kind": "rloo", "num_generations": 4, "max_new_tokens": 4, "rewards": {"exact_match": {"weight": 1.0}}}
GIVEN = [1.0, 0.0, 0.0, 3.0, 2.0, 2.0, 2.0, 2.0]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    torch.set_num_threads(1)
    return byte_model.write(tmp_path_factory.mktemp("models") / "bytes")


def made(base, folder, **settings):
    return trainer_of(spec_of({**OBJECTIVE, **settings}), base, folder, conversations())


def draw(trainer, given):
    """What the trainer makes of given rewards for the answers to two prompts."""
    trainer.reward_funcs = [lambda **_: given]
    trainer.model.train()
    rows = [trainer.train_dataset[place] for place in (0, 1) for _ in range(4)]
    return trainer._generate_and_score_completions(rows)


def test_an_advantage_is_the_reward_less_the_mean_of_the_others(base, tmp_path):
    """Ahmadian et al. 2024, equation 8."""
    found = draw(made(base, tmp_path, beta=0.0), GIVEN)["advantages"]
    assert torch.allclose(found, torch.tensor([0.0, -4 / 3, -4 / 3, 8 / 3, 0.0, 0.0, 0.0, 0.0]))


def test_normalised_advantages_have_no_mean_and_a_spread_of_one(base, tmp_path):
    found = draw(made(base, tmp_path, beta=0.0, normalise=True), GIVEN)["advantages"]
    assert found.mean().item() == pytest.approx(0.0, abs=1e-6) and found.std().item() == pytest.approx(1.0, rel=1e-3)


def test_the_distance_from_the_start_is_taken_off_the_reward(base, tmp_path):
    """Equation 6: the reward less beta times the log-ratio of the whole answer to the start's."""
    trainer = made(base, tmp_path, beta=0.5)
    with torch.no_grad():
        trainer.model.lm_head.weight += 0.1 * torch.randn_like(trainer.model.lm_head.weight)
    found = draw(trainer, [0.0] * 8)
    ids, mask = (torch.cat([found[f"prompt_{name}"], found[f"completion_{name}"]], dim=1) for name in ("ids", "mask"))
    start = found["prompt_ids"].shape[1] - 1

    def of(model):
        with torch.no_grad():
            logits = model(input_ids=ids, attention_mask=mask).logits[:, start:-1].log_softmax(-1)
        chosen = logits.gather(-1, found["completion_ids"].unsqueeze(-1)).squeeze(-1)
        return (chosen * found["completion_mask"]).sum(1)

    apart = of(trainer.model) - of(trainer.ref_model)
    assert apart.abs().min() > 1e-3
    less = -0.5 * apart
    others = (less.view(2, 4).sum(1, keepdim=True) - less.view(2, 4)) / 3
    assert torch.allclose(found["advantages"], less - others.view(-1), atol=1e-4)


def test_the_loss_is_the_advantage_times_the_log_probability_of_the_whole_answer(base, tmp_path):
    """Equation 1, with the ratio to the weights that drew the answer clipped as in PPO; its gradient is REINFORCE's."""
    trainer = made(base, tmp_path, beta=0.0, epsilon=0.2)
    batch = {
        "prompt_ids": torch.tensor([[1, 50, 51], [1, 50, 51]]),
        "prompt_mask": torch.ones(2, 3, dtype=torch.long),
        "completion_ids": torch.tensor([[60, 61, 2], [62, 2, 0]]),
        "completion_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "advantages": torch.tensor([0.8, -1.2]),
    }
    ids, mask = (torch.cat([batch[f"prompt_{name}"], batch[f"completion_{name}"]], dim=1) for name in ("ids", "mask"))
    logits = trainer.model(input_ids=ids, attention_mask=mask).logits[:, 2:-1].log_softmax(-1)
    tokens = logits.gather(-1, batch["completion_ids"].unsqueeze(-1)).squeeze(-1)
    now = (tokens * batch["completion_mask"]).sum(1)
    for moved in (0.0, 0.5, -0.5):
        before = now.detach() - moved
        ratio = torch.exp(now - before)
        clipped = torch.minimum(ratio * batch["advantages"], ratio.clamp(0.8, 1.2) * batch["advantages"])
        found = trainer._compute_loss(trainer.model, {**batch, "old_logps": before})
        assert found.item() == pytest.approx(-clipped.mean().item(), rel=1e-4)
    (theirs,) = torch.autograd.grad(
        trainer._compute_loss(trainer.model, {**batch, "old_logps": now.detach()}), trainer.model.lm_head.weight
    )
    (ours,) = torch.autograd.grad(-(batch["advantages"] * now).mean(), trainer.model.lm_head.weight)
    assert torch.allclose(theirs, ours, atol=1e-5)
