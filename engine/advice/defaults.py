"""Defaults that follow from the facts: the objective, the tuner, the rows, the device. Each says why.

Facts: `objective`, `tuner` (kinds), `quantization`, `optimizer`, `num_rows`, `device` (`cpu` or `cuda`), and where they
are known `parameters` (of the model) and `version` (of the dataset).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.advice.advice import Advice
from engine.objectives import OBJECTIVES
from engine.optimizers import OPTIMIZERS
from engine.tuners import TUNERS

Facts = Mapping[str, Any]

SMALL_MODEL = 1_000_000_000
SMALL_FACTOR = 2.5
"""Small models bear and need larger rates; those of the objectives are of models of several billion parameters."""
EPOCHS: tuple[tuple[int, float], ...] = ((200, 4.0), (2_000, 3.0), (30_000, 2.0), (300_000, 1.0))
DPO_EPOCHS = 2.0
CPU_DPO_EPOCHS = 1.0
JUDGED = frozenset({"preference", "unpaired"})
CPU_EPOCHS = 2.0
"""A pass takes minutes there; on the ticket sample (one seed) the evaluation loss was least just after two."""
WARM_UP_ROWS = 1_000


def defaults(facts: Facts) -> dict[str, Advice]:
    """Field path → advice, for the fields whose best value depends on the facts."""
    found: dict[str, Advice] = {}
    for path, rule in RULES.items():
        advice = rule(facts)
        if advice is not None:
            found[path] = advice
    return found


def complete(spec_data: Mapping[str, Any], facts: Facts) -> dict[str, Any]:
    """A copy of a spec's data in which every advised field that is absent or null has its advised value."""
    completed = {name: dict(part) if isinstance(part, Mapping) else part for name, part in spec_data.items()}
    for path, advice in defaults(facts).items():
        section, name = path.split(".")
        part = completed.setdefault(section, {})
        if isinstance(part, dict) and part.get(name) is None:
            part[name] = advice.value
    return completed


def _learning_rate(facts: Facts) -> Advice | None:
    objective, tuner = OBJECTIVES.get(str(facts.get("objective"))), TUNERS.get(str(facts.get("tuner")))
    if objective is None or tuner is None:
        return None
    code = "rate_full" if tuner.rate_factor == 1 else "rate_adapter"
    values: dict[str, Any] = {"factor": tuner.rate_factor}
    rate = objective.learning_rate * tuner.rate_factor
    parameters = facts.get("parameters")
    if parameters is not None and parameters < SMALL_MODEL:
        rate, code, values = rate * SMALL_FACTOR, f"{code}_small", {**values, "parameters": parameters}
    rule = OPTIMIZERS.get(str(facts.get("optimizer")))
    if rule is not None and rule.rate_factor != 1:
        rate, code = rate * rule.rate_factor, "rate_optimizer"
        values = {"optimizer": facts["optimizer"], "factor": rule.rate_factor}
    return Advice(float(f"{rate:.1e}"), code, values, "notes_rates")


def _epochs(facts: Facts) -> Advice:
    rows = int(facts.get("num_rows") or 0)
    epochs = next((epochs for limit, epochs in EPOCHS if rows <= limit), 1.0)
    prefers = _learns_preferences(facts)
    if prefers and facts.get("device") == "cpu":
        return Advice(CPU_DPO_EPOCHS, "epochs_dpo_cpu", {"epochs": CPU_DPO_EPOCHS}, "measured")
    if prefers:
        return Advice(min(epochs, DPO_EPOCHS), "epochs_dpo", {"epochs": min(epochs, DPO_EPOCHS)}, "notes_epochs")
    if facts.get("device") == "cpu" and epochs > CPU_EPOCHS:
        return Advice(CPU_EPOCHS, "epochs_cpu", {"epochs": CPU_EPOCHS}, "measured")
    return Advice(epochs, "epochs_by_rows", {"rows": rows, "epochs": epochs}, "notes_epochs")


def _learns_preferences(facts: Facts) -> bool:
    """Whether the model itself is moved away from answers: nothing then keeps it likely to give the others."""
    objective = OBJECTIVES.get(str(facts.get("objective")))
    return objective is not None and objective.head == "language" and set(objective.row_kinds) <= JUDGED


def _batch(facts: Facts) -> Advice:
    if facts.get("device") == "cuda":
        return Advice(8, "batch_gpu", {}, "notes_batch")
    return Advice(4, "batch_cpu", {}, "notes_batch")


def _accumulation(facts: Facts) -> Advice:
    if facts.get("device") == "cuda":
        return Advice(2, "accumulation", {"rows": 16}, "notes_batch")
    return Advice(2, "accumulation", {"rows": 8}, "notes_batch")


def _warm_up(facts: Facts) -> Advice:
    rows = int(facts.get("num_rows") or 0)
    if rows <= WARM_UP_ROWS:
        return Advice(0.1, "warmup_small_set", {"rows": rows}, "notes_warmup")
    return Advice(0.03, "warmup_usual", {}, "notes_warmup")


def _checkpointing(facts: Facts) -> Advice | None:
    large = int(facts.get("parameters") or 0) > SMALL_MODEL
    return Advice(True, "checkpointing_large", {}, "measured") if large else None


def _compile(facts: Facts) -> Advice:
    """Figures: tests/bench/RESULTS.md, "Compiled layers"."""
    if facts.get("device") == "cuda":
        return Advice(False, "compile_gpu")
    return Advice(False, "compile_cpu", {}, "measured")


def _kernels(facts: Facts) -> Advice | None:
    return Advice("torch", "kernels_gpu") if facts.get("device") == "cuda" else None


def _schedule(facts: Facts) -> Advice | None:
    rule = OPTIMIZERS.get(str(facts.get("optimizer")))
    return Advice("constant", "schedule_of_average") if rule is not None and rule.averages else None


RULES: dict[str, Callable[[Facts], Advice | None]] = {
    "training.learning_rate": _learning_rate,
    "training.epochs": _epochs,
    "training.batch_size": _batch,
    "training.gradient_accumulation": _accumulation,
    "training.warmup_ratio": _warm_up,
    "training.gradient_checkpointing": _checkpointing,
    "training.schedule": _schedule,
    "training.compile": _compile,
    "training.kernels": _kernels,
}
