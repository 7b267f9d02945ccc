"""AdaLoRA: LoRA whose rank is dealt out among the layers while it trains (Zhang et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import model_validator

from engine.specs import base
from engine.specs.base import SpecError, setting
from engine.specs.problem import problem
from engine.tuners.adapters import Targets, names, shapes, targets_setting, wrap
from engine.tuners.protocol import Given

ALLOCATION = "allocation.safetensors"
AVERAGES = ("exp_avg_ipt", "exp_avg_unc")
"""What the library's allocator adds up from step to step."""


class AdaloraTuner:
    kind = "adalora"
    refuses: ClassVar[Mapping[str, str]] = {"int8": "no_int8_layers"}
    is_adapter = True
    merges = True
    packs = True
    rate_factor = 10.0

    class Spec(base.EntrySpec):
        """The ranks before and after, and when they are dealt out."""

        kind: Literal["adalora"] = "adalora"
        initial_rank: int = setting(12, "First rank", "Rank of every layer at the start.", simple=True, ge=2, le=1024)
        rank: int = setting(8, "Rank", "Rank of a layer on average at the end.", simple=True, ge=1, le=1023)
        alpha: float = setting(32.0, "Alpha", "The added part is scaled by alpha / rank.", gt=0.0, le=4096.0)
        targets: Targets = targets_setting()
        warm_share: float = setting(0.1, "Share before", "Share of the steps before ranks are cut.", ge=0.0, le=0.5)
        final_share: float = setting(0.3, "Share after", "Share of the steps after the last cut.", ge=0.0, le=0.49)
        orthogonality: float = setting(
            0.5, "Orthogonality", "How strongly the directions of a layer are kept apart.", ge=0.0, le=10.0
        )

        @model_validator(mode="after")
        def _is_cut(self) -> AdaloraTuner.Spec:
            if self.rank >= self.initial_rank:
                values: dict[str, Any] = {"given": self.rank, "allowed": str(self.initial_rank - 1), "detail": ""}
                raise SpecError(problem("spec_too_large", field="tuner.rank", **values))
            return self

    def prepare(self, model: Any, spec: Spec, given: Given) -> Any:
        from peft import AdaLoraConfig

        config = AdaLoraConfig(
            init_r=spec.initial_rank,
            target_r=spec.rank,
            lora_alpha=spec.alpha,
            target_modules=names(spec.targets),
            tinit=int(spec.warm_share * given.total_steps),
            tfinal=int(spec.final_share * given.total_steps),
            total_step=given.total_steps,
            orth_reg_weight=spec.orthogonality,
            task_type=given.task,
        )
        made = wrap(model, config)
        # The library takes one trainable adapter, and the frozen copy that preferences are compared with for another.
        made.peft_config["default"].inference_mode = True
        return made

    def trainable(self, spec: Spec, facts: dict[str, Any]) -> int:
        return sum(spec.initial_rank * (into + out + 1) for into, out in shapes(facts, spec.targets))

    def penalty(self, model: Any) -> Any:
        """The mean distance of the layers' directions from orthogonal ones: the library's own reaches no loss."""
        import torch

        parts = [
            torch.linalg.matrix_norm(_products(name, weight) - torch.eye(min(weight.shape), device=weight.device))
            for name, weight in model.named_parameters()
            if weight.requires_grad and ("lora_A" in name or "lora_B" in name)
        ]
        return model.peft_config["default"].orth_reg_weight * torch.stack(parts).mean()

    def after_step(self, model: Any, step: int) -> None:
        """Weigh each direction and cut the least; once the last cut is made it stays."""
        allocator, config = model.base_model.rankallocator, model.peft_config["default"]
        last = config.total_step - config.tfinal
        if step <= last:
            if not allocator.ipt:
                allocator.update_ipt(model.base_model.model)  # a run of one step cuts at its first
            _, kept = allocator.update_and_allocate(model.base_model.model, step, force_mask=step == last)
            model.base_model.atelier_kept = kept if step == last else None
        elif model.base_model.atelier_kept:
            allocator.mask_using_rank_pattern(model.base_model.model, model.base_model.atelier_kept)

    def store(self, model: Any, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(dict(self.stored(model)), str(folder / ALLOCATION))

    def restore(self, model: Any, folder: Path, load: Callable[[], None], *, goes_on: bool = False) -> None:
        from safetensors.torch import load_file

        load()
        if goes_on:
            return
        allocator, kept = model.base_model.rankallocator, {}
        for name, value in load_file(str(folder / ALLOCATION)).items():
            part, of = name.split(":", 1)
            if part == "kept":
                kept[of] = value.tolist()
            else:
                getattr(allocator, part)[of] = value.to(model.device)
                allocator.ipt[of] = value.to(model.device)  # made anew at the next step; its place says that one was
        model.base_model.atelier_kept = kept or None

    def stored(self, model: Any) -> Mapping[str, Any]:
        import torch

        allocator = model.base_model.rankallocator
        found = {
            f"{part}:{name}": value.detach().cpu().contiguous()
            for part in AVERAGES
            for name, value in getattr(allocator, part).items()
        }
        kept = getattr(model.base_model, "atelier_kept", None) or {}
        return found | {f"kept:{name}": torch.tensor(value) for name, value in kept.items()}


def _products(name: str, weight: Any) -> Any:
    """The inner products of a matrix's directions."""
    return weight @ weight.T if "lora_A" in name else weight.T @ weight
