"""Presets: what a person wants, as settings of a run. Each value has its reason; what is not named stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engine.advice.advice import Advice
from engine.objectives import OBJECTIVES
from engine.specs.problem import ProblemError, problem
from engine.tuners import TUNERS

KINDS = ("objective.kind", "tuner.kind")


@dataclass(frozen=True, slots=True)
class Preset:
    """Called `preset.NAME`; the sentence `preset.NAME.when` says what it is for."""

    name: str
    values: Mapping[str, Advice]
    """By the address in a spec (`training.epochs`); both of `KINDS` are among them."""

    @property
    def objective(self) -> str:
        return str(self.values["objective.kind"].value)

    @property
    def tuner(self) -> str:
        return str(self.values["tuner.kind"].value)


def _advice(value: Any, reason: str, source: str) -> Advice:
    return Advice(value, f"preset_{reason}", {"value": value}, source)


STOP_EARLY = {"training.early_stopping_patience": _advice(3, "stop_early", "notes_curves")}
LORA = {"tuner.kind": _advice("lora", "lora", "notes_stages")}

_ALL = (
    Preset(
        "style",
        {
            "objective.kind": _advice("sft", "style_sft", "notes_stages"),
            **LORA,
            "training.epochs": _advice(5.0, "style_epochs", "notes_epochs"),
            **STOP_EARLY,
        },
    ),
    Preset(
        "knowledge",
        {
            "objective.kind": _advice("pretrain", "knowledge_pretrain", "notes_stages"),
            "tuner.kind": _advice("lora", "knowledge_lora", "notes_rank"),
            "tuner.rank": _advice(64, "knowledge_rank", "notes_rank"),
            "tuner.alpha": _advice(64.0, "knowledge_alpha", "notes_rank"),
            "data.packing": _advice(True, "knowledge_packing", "notes_tokens"),
            "training.weight_decay": _advice(0.1, "knowledge_decay", "notes_pretraining"),
        },
    ),
    Preset(
        "classify",
        {
            "objective.kind": _advice("classify", "classify_head", "notes_evaluation"),
            **LORA,
            "data.eval_fraction": _advice(0.2, "classify_eval", "notes_evaluation"),
            **STOP_EARLY,
        },
    ),
    Preset(
        "align",
        {
            "objective.kind": _advice("dpo", "align_dpo", "notes_stages"),
            **LORA,
            "objective.beta": _advice(0.1, "align_beta", "notes_curves"),
            "training.epochs": _advice(1.0, "align_epochs", "notes_curves"),
        },
    ),
    Preset(
        "reason",
        {
            "objective.kind": _advice("grpo", "reason_grpo", "practice"),
            **LORA,
            "objective.rewards.number_match.weight": _advice(1.0, "reason_reward", "practice"),
            "data.max_length": _advice(1024, "reason_length", "practice"),
        },
    ),
)


def presets() -> dict[str, Preset]:
    """Return the presets whose objective and tuner there are, by name."""
    return {one.name: one for one in _ALL if one.objective in OBJECTIVES and one.tuner in TUNERS}


def complete(data: Mapping[str, Any], name: str) -> tuple[dict[str, Any], dict[str, Advice]]:
    """A copy of a spec's data with what a preset says put where nothing stands, and what was put there.

    What stands in the data wins. With another tuner than the preset's, the preset says nothing of the tuner.

    Raises:
        ProblemError: there is no such preset, or the data names another objective than the preset's.
    """
    preset = presets().get(name)
    if preset is None:
        raise ProblemError([problem("usage_preset", given=name, allowed=", ".join(presets()))])
    given = _at(data, "objective.kind")
    if given not in (None, preset.objective):
        values: dict[str, Any] = {"preset": name, "given": str(given), "needed": preset.objective}
        raise ProblemError([problem("usage_preset_objective", field="objective.kind", **values)])
    filled, put = _copied(data), dict[str, Advice]()
    for path, advice in sorted(preset.values.items(), key=lambda one: one[0] not in KINDS):
        if path.startswith("tuner.") and _at(filled, "tuner.kind") not in (None, preset.tuner):
            continue
        if _at(filled, path) is None and _put(filled, path, advice.value):
            put[path] = advice
    return filled, put


def _copied(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copied(value) if isinstance(value, Mapping) else value for key, value in data.items()}


def _at(data: Any, path: str) -> Any:
    """What stands at an address; None where nothing does."""
    for name in path.split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data


def _put(data: dict[str, Any], path: str, value: Any) -> bool:
    """Put a value at an address; not through what is no section, which the spec refuses by itself."""
    *sections, last = path.split(".")
    for name in sections:
        if data.get(name) is None:
            data[name] = {}
        data = data[name]
        if not isinstance(data, dict):
            return False
    data[last] = value
    return True
