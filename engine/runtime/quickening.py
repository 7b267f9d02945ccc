"""What makes the passes of a model quicker where a person asks for it: compiled layers, and Liger's kernels on a GPU.

Child processes only.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

from engine.runtime.device import Device
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, ProblemError, problem


def check(spec: JobSpec, device: Device) -> None:
    """Prove that what is asked for can be had here, before anything is loaded.

    Raises:
        ProblemError: `spec_kernels_need_gpu`, `spec_kernels_missing`, `spec_cannot_compile`.
    """
    found: list[Problem] = []
    if spec.training.kernels == "liger" and device.kind != "cuda":
        found.append(problem("spec_kernels_need_gpu", field="training.kernels"))
    elif spec.training.kernels == "liger" and importlib.util.find_spec("liger_kernel") is None:
        found.append(problem("spec_kernels_missing", field="training.kernels", package="liger-kernel"))
    if spec.training.compile and (detail := _compiler_fails(device)) is not None:
        found.append(problem("spec_cannot_compile", field="training.compile", detail=detail))
    if found:
        raise ProblemError(found)


def use_liger(model: Any) -> None:
    """Put Liger's norms, gates and rotations in the model's; the loss in chunks stays the studio's own.

    Raises:
        ProblemError: `model_has_no_kernels`.
    """
    from liger_kernel.transformers import _apply_liger_kernel_to_instance
    from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

    kind = model.config.model_type
    if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
        raise ProblemError([problem("model_has_no_kernels", field="training.kernels", given=kind)])
    _apply_liger_kernel_to_instance(model=model, cross_entropy=False, fused_linear_cross_entropy=False)


def compile_layers(model: Any) -> None:
    """Compile each layer of the stack in its place, for rows of any length; names of weights stay what they are.

    One layer's code serves all of them. Passes without gradients (evaluation, answers) go without it: each kind of
    pass would be compiled anew.

    Raises:
        ProblemError: `model_has_no_layers`.
    """
    import torch
    from torch._inductor import config
    from transformers import AttentionInterface

    from engine.models.rows_apart import ATTENTION, rows_apart

    names = set(model._no_split_modules or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ProblemError([problem("model_has_no_layers", field="training.compile", given=model.config.model_type)])
    config.compile_threads = 1  # processes for it would each take the memory of a library
    # Its loop over rows would be compiled anew for each number of them.
    disable: Any = torch.compiler.disable
    AttentionInterface.register(ATTENTION, disable(rows_apart))
    for layer in layers:
        layer.compile(dynamic=True)
        layer._compiled_call_impl = _with_gradients(layer._compiled_call_impl, layer._call_impl)


def _with_gradients(compiled: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    import torch

    def call(*positional: Any, **named: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else plain)(*positional, **named)

    return call


def _compiler_fails(device: Device) -> str | None:
    """Why code for this device cannot be compiled; None where a small trial of it runs."""
    import torch

    try:
        torch.compile(lambda numbers: numbers.exp() + 1)(torch.ones(64, device=device.kind))
    except RuntimeError as error:  # of whichever part of the compiler
        return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]
    return None
