"""LoRA: small matrices beside the frozen ones (Hu et al. 2021). On an nf4 base this is QLoRA (Dettmers et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.specs import base
from engine.specs.base import SpecError, setting, words
from engine.specs.problem import Problem, ProblemError, problem
from engine.tuners import starts
from engine.tuners.adapters import Targets, names, shapes, wrap
from engine.tuners.protocol import Given


class LoraTuner:
    kind = "lora"
    refuses: ClassVar[Mapping[str, str]] = {}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0
    learns_new_tokens: ClassVar[Literal[True]] = True

    class Spec(base.EntrySpec):
        """Size, scale, place and start of the matrices."""

        kind: Literal["lora"] = "lora"
        rank: int = setting(
            16,
            "Rank",
            "Width of the added matrices: their capacity. 8–16 is usually enough.",
            simple=True,
            ge=1,
            le=1024,
        )
        alpha: float = setting(32.0, "Alpha", "The added part is scaled by alpha / rank.", gt=0.0, le=4096.0)
        dropout: float = setting(
            0.0, "Dropout", "Share of inputs to the added matrices that is dropped at random.", ge=0.0, le=0.9
        )
        targets: Targets = setting(
            "all-linear", "Layers", "Which linear layers get matrices: all of them, or those of the attention alone."
        )
        lora_plus_ratio: float = setting(
            1.0,
            "Rate of B to A",
            "How much faster the second matrix of each pair learns than the first (LoRA+); 16 is usual, 1: alike.",
            ge=1.0,
            le=1024.0,
        )
        rslora: bool = setting(
            False, "Rank-stabilised", "Scale by alpha / √rank instead: large ranks then learn as fast as small ones."
        )
        dora: bool = setting(
            False,
            "DoRA",
            "Learn the length of each output's weights apart from their direction: closer to full fine-tuning, slower.",
        )
        initialisation: Literal["default", "gaussian", "pissa", "pissa_niter", "olora", "loftq", "eva"] = setting(
            "default",
            "Initialisation",
            "What the matrices start as. pissa, olora: the main part of the base's own weights, which learns faster; "
            "loftq: what nf4 rounded away; eva: the directions in which the data varies; default, gaussian: no change.",
        )
        train_tokens: str | None = setting(
            None,
            "Trained tokens",
            "Tokens of the model, separated by spaces, whose embeddings are trained too: special ones that it has and "
            "never learned.",
            max_length=2000,
        )

        @model_validator(mode="after")
        def _fits(self) -> LoraTuner.Spec:
            if self.dora and self.initialisation in starts.PARTS:
                raise SpecError(problem("lora_dora_start", field="tuner.dora", given=self.initialisation))
            return self

    def misfits(self, spec: Spec, quantization: str) -> Sequence[Problem]:
        if spec.initialisation == "loftq" and quantization != "nf4":
            return [problem("lora_loftq_needs_nf4", field="tuner.initialisation", given=quantization)]
        if spec.dora and quantization == "int8":
            return [problem("lora_dora_int8", field="tuner.dora", given=quantization)]
        return []

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import LoraConfig

        config = LoraConfig(
            r=spec.rank,
            lora_alpha=spec.alpha,
            lora_dropout=spec.dropout,
            target_modules=names(spec.targets),
            task_type=given.task,
            use_rslora=spec.rslora,
            use_dora=spec.dora,
            init_lora_weights="gaussian" if spec.initialisation == "gaussian" else True,
            trainable_token_indices=_token_places(model, spec, given),
        )
        made = wrap(model, config)
        _without_bias(made)
        if given.goes_on:
            return made
        if spec.initialisation in starts.PARTS:
            starts.take_part(made, spec.initialisation)
        elif spec.initialisation == "loftq":
            starts.make_up_for_rounding(made)
        elif spec.initialisation == "eva":
            starts.follow_data(made, given)
        return made

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        chosen = shapes(facts, spec.targets)
        lengths = sum(out for _, out in chosen) if spec.dora else 0
        tokens = len(words(spec.train_tokens)) + int(facts.get("new_tokens", 0))
        rows = tokens * (1 if facts.get("tied", True) else 2)
        embeddings = rows * int(facts["hidden_size"]) if rows else 0
        return sum(spec.rank * (into + out) for into, out in chosen) + lengths + embeddings

    def store(self, model: Any, folder: Path) -> None:
        if starts.has_part(model):
            starts.write_plain(model, folder)

    def restore(self, model: Any, folder: Path, load: Callable[[], None], *, goes_on: bool = False) -> None:
        del goes_on  # what is gone on with is a plain one
        if starts.has_part(model):
            starts.read_plain(model, folder)
        else:
            load()

    def stored(self, model: Any) -> Mapping[str, Any]:
        return starts.plain(model) if starts.has_part(model) else {}


def _token_places(model: Any, spec: LoraTuner.Spec, given: Given) -> dict[str, list[int]] | None:
    """The trained rows of the embedding, and of the output layer where that has weights of its own.

    Raises:
        ProblemError: `tuner_token_unknown`.
    """
    wanted = dict.fromkeys((*given.new_tokens, *words(spec.train_tokens)))
    if not wanted:
        return None
    known = given.tokenizer.get_vocab()
    if unknown := [one for one in wanted if one not in known]:
        raise ProblemError([problem("tuner_token_unknown", field="tuner.train_tokens", given=" ".join(unknown)[:200])])
    ids = sorted(int(known[one]) for one in wanted)  # in one order, whatever the settings name first
    into, out = model.get_input_embeddings(), model.get_output_embeddings()
    tied = out is None or out.weight is into.weight
    named = {id(module): name.rsplit(".", 1)[-1] for name, module in model.named_modules()}
    return {named[id(module)]: ids for module in ([into] if tied else [into, out])}


def _without_bias(model: Any) -> None:
    """Say of an output layer with trained rows that it has no bias: losses that read its weights ask for one."""
    from peft.utils import TrainableTokensWrapper

    for module in model.modules():
        if isinstance(module, TrainableTokensWrapper) and getattr(module.original_module, "bias", None) is None:
            module.register_parameter("bias", None)
