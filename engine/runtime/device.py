"""Where a process computes, and in which number format that pays."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

import psutil

SPARE_BYTES = 768 * 2**20


@dataclass(frozen=True, slots=True)
class Device:
    """`kind` is `cpu` or `cuda`; `bf16` says whether bfloat16 arithmetic is fast there."""

    kind: str
    bf16: bool


def choose(wanted: str) -> Device:
    """Resolve `auto`, `cpu` or `cuda`.

    Raises:
        ProblemError: a GPU is asked for and there is none.
    """
    import torch

    from engine.specs.problem import ProblemError, problem

    available = torch.cuda.is_available()
    if wanted == "cuda" and not available:
        raise ProblemError([problem("spec_no_gpu", field="resources.devices")])
    if wanted != "cpu" and available:
        return Device("cuda", torch.cuda.is_bf16_supported())
    return Device("cpu", cpu_has_bf16())


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 in hardware; elsewhere it is emulated and slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("flags", 2)[1].split("\n", 1)[0]
    except (OSError, IndexError):
        return False
    return any(name in flags.split() for name in ("avx512_bf16", "amx_bf16", "bf16"))


def arithmetic(folder: Path, *, quantization: str, dtype: str, device: str) -> str:
    """The format in which a base answers: float32 where bfloat16 would be emulated, if there is memory for it.

    Weights in bfloat16 are in float32 the same to the last bit; a prompt is computed three times as fast.
    """
    if device != "cpu" or dtype != "bfloat16" or cpu_has_bf16():
        return dtype
    needed = weights_bytes(folder) * (2 if quantization == "none" else 1) + SPARE_BYTES
    return "float32" if needed <= psutil.virtual_memory().available else dtype


def weights_bytes(folder: Path) -> int:
    """How much the weights of a model folder take on disk."""
    return sum(path.stat().st_size for path in folder.glob("*.safetensors"))


def peak_memory_bytes(kind: str) -> int:
    """Most memory this process has held so far: on the GPU, or resident on the CPU."""
    import torch

    if kind == "cuda":
        return int(torch.cuda.max_memory_reserved())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
