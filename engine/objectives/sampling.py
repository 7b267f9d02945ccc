"""Trainers that draw answers of the model while they train it: what those of the library lack for ours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from engine.specs.problem import Problem, ProblemError, problem

DRAWN = "drawn.tensors"
"""In a checkpoint, as safetensors: the answers that further steps are made of. What ends in .safetensors is weights."""
DRAWN_AT_ONCE = 4
"""Answers drawn together, for each row of a forward pass: without a gradient a row takes a small part of its memory."""


def problems(spec: Any, answers: int) -> list[Problem]:
    """What in a whole spec does not go together with drawing `answers` answers to each prompt."""
    found = []
    batch, section = spec.effective_batch, spec.objective
    if batch % answers:
        values = {"batch": batch, "answers": answers}
        found.append(problem("online_batch_not_divisible", field="training.batch_size", **values))
    if section.max_new_tokens >= spec.data.max_length:
        values = {"given": section.max_new_tokens, "allowed": spec.data.max_length}
        found.append(problem("online_no_room", field="data.max_length", **values))
    return found


def check_rows(train: Any, needed: int) -> None:
    """Refuse rows that do not fill one step.

    Raises:
        ProblemError: `data_rows_below_step`.
    """
    if len(train) < needed:
        values = {"rows": len(train), "needed": needed}
        raise ProblemError([problem("data_rows_below_step", field="training.batch_size", **values)])


def stop_where_the_chat_stops(parts: Any) -> None:
    """Let the library's trainer end an answer at the tokens at which the chat does."""
    from engine.models.serving import stop_ids

    tokenizer, config = parts.common["processing_class"], parts.model.generation_config
    config.eos_token_id = stop_ids(tokenizer, config, parts.renderer)


def sampling(base: type, per_prompt: Callable[[Any], int]) -> type:
    """Wrap one of TRL's trainers that generate: prompts arrive as ids, and answers are drawn as in the chat.

    `per_prompt` tells of a trainer how many answers it draws to a prompt in training.
    """
    import torch
    from safetensors.torch import load_file, save_file

    class Sampling(base):
        """The library's trainer on stored prompts."""

        trying = False
        """Whether it only tries its memory: nothing of it is scored or kept."""
        _buffered_inputs: Any = None

        def __init__(self, *positional: Any, beat: Callable[[], None], **named: Any) -> None:
            super().__init__(*positional, **named)
            model = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
            # A step that draws long answers takes as long as many others: each token tells that it moves.
            model.register_forward_pre_hook(lambda *_: beat())

        def _tokenize_prompts(self, prompts: list[list[int]]) -> tuple[list[list[int]], None, dict[str, Any]]:
            return prompts, None, {}

        def _generate_single_turn(self, prompt_ids: list[list[int]], *rest: Any, **named: Any) -> Any:
            """Draw in evaluation mode: without dropout, and with a cache though gradients are checkpointed."""
            training, size = self.model.training, DRAWN_AT_ONCE * self.args.per_device_train_batch_size
            draw = super()._generate_single_turn
            self.model.eval()
            try:
                starts = range(0, len(prompt_ids), size)
                parts = [draw(prompt_ids[at : at + size], *rest, **named) for at in starts]
            finally:
                self.model.train(training)
            if isinstance(parts[0], tuple):  # with log-probabilities, which a model in this process never gives
                return list(chain.from_iterable(ids for ids, _ in parts)), None
            return list(chain.from_iterable(parts))

        def evaluate(self, *positional: Any, **named: Any) -> dict[str, float]:
            """Draw with the same chance each time: evaluations differ by the weights alone, and training by none."""
            devices = [self.args.device] if self.args.device.type == "cuda" else []
            with torch.random.fork_rng(devices):
                torch.manual_seed(self.args.seed)
                measured: dict[str, float] = super().evaluate(*positional, **named)
            return measured

        def groups_rows(self) -> bool:
            """No: prompts are repeated in an order of the library's own, and it is the answers that take the time."""
            return False

        def groups_evaluation(self) -> bool:
            return False

        def try_rows(self, longest: Callable[[int], Any]) -> None:
            """Draw the longest answers that there can be to the longest prompts, and learn from them."""
            each = per_prompt(self)
            rows = longest(self._rows_per_step())
            batch = [rows[place] for place in range(len(rows)) for _ in range(each)]
            kept = {name: getattr(self, name) for name in ("_step", "_buffered_inputs", "_current_train_step_time")}
            seen, least = self.state.num_input_tokens_seen, self.generation_config.min_new_tokens
            self.trying, self._step, self._buffered_inputs = True, 0, None
            self.generation_config.min_new_tokens = self.max_completion_length
            try:
                self.training_step(self.model_wrapped, batch, None)
            finally:
                self.trying, self.generation_config.min_new_tokens = False, least
                self.state.num_input_tokens_seen = seen
                for name, value in kept.items():
                    setattr(self, name, value)

        def most_tokens(self, of_longest: Callable[[int], int]) -> int:
            """Those of a whole draw, each answer as long as it may be."""
            each, prompts = per_prompt(self), self._rows_per_step()
            return int(each * (of_longest(prompts) + prompts * self.max_completion_length))

        def epoch_at(self, step: int, batch_size: int) -> float:
            """How many times the prompts have been gone through: the last ones that fill no step are left out."""
            del batch_size
            draws = max(1, len(self.train_dataset) // self._rows_per_step())
            return float(step / (draws * self._updates()))

        def keep_beside(self, folder: Path) -> None:
            """Keep what was drawn where more steps are to be made of it."""
            if self._buffered_inputs is not None and self.state.global_step % self._updates():
                save_file(_flat(self._buffered_inputs), folder / DRAWN)

        def take_beside(self, folder: Path) -> None:
            """Go on with the step that comes next, on what was drawn for it."""
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
            if (folder / DRAWN).exists():
                self._buffered_inputs = _nested(load_file(folder / DRAWN, device=str(self.args.device)))

        def _updates(self) -> int:
            return int(getattr(self, "num_iterations", 1))

        def _rows_per_step(self) -> int:
            sequences = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
            return int(sequences // per_prompt(self))

    return Sampling


def _flat(passes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tensors of each forward pass under one name each."""
    return {f"{at}.{name}": value.clone() for at, one in enumerate(passes) for name, value in one.items()}


def _nested(tensors: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inverse of `_flat`."""
    passes: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        at, _, key = name.partition(".")
        passes.setdefault(int(at), {})[key] = value
    return [passes[at] for at in sorted(passes)]


def conversation_of(row: dict[str, Any]) -> tuple[Sequence[Any], str]:
    """The messages to be answered and the row's own answer, from a conversation or a pair; "" where it has none."""
    if "chosen" in row:
        return row["prompt"], str(row["chosen"][-1].get("content") or "")
    messages = row["messages"]
    if messages[-1]["role"] != "assistant":
        return messages, ""
    return messages[:-1], str(messages[-1].get("content") or "")
