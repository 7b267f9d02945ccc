"""How a run starts from an earlier run's adapter: the adapter is trained further, or folded into its base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from engine.objectives import OBJECTIVES
from engine.specs.base import words
from engine.specs.job import JobSpec
from engine.specs.problem import Problem, problem
from engine.tuners import TUNERS
from engine.tuners.protocol import Phased

Way = Literal["continue", "merge"]
ONLY_AT_FIRST = ("initialisation", "text")
"""Settings of a tuner that matter to a new adapter alone."""
MAY_CHANGE = ("dropout", "orthogonality", "warm_share", "final_share")
"""Settings of a tuner that an adapter can change while it is trained."""


def way_of(spec: JobSpec, before: Mapping[str, Any], quantization: str, target: str) -> tuple[Way, list[Problem]]:
    """How the run starts, and what keeps it from that.

    `before` is the spec of the run that trained the adapter, `quantization` the form of the base below it.
    """
    wanted = spec.model.start_as
    if "tuner" not in before:  # merged from several: there is no one tuner whose settings it would go on with
        stays = [problem("start_merged_adapter", field="model.start_as", target=target)] if wanted == "continue" else []
        return "merge", stays + _rounded(spec)
    differs = _differences(spec, before, quantization, target)
    if not TUNERS[spec.tuner.kind].is_adapter:
        stays = [problem("start_not_an_adapter", field="model.start_as", tuner=spec.tuner.kind)]
        return "merge", (stays if wanted == "continue" else []) + _unfoldable(spec, before, target)
    if wanted == "continue" or (wanted == "auto" and not differs):
        return "continue", differs
    rounded = _rounded(spec)
    return "merge", _unfoldable(spec, before, target) + rounded + (differs if rounded else [])


def _rounded(spec: JobSpec) -> list[Problem]:
    """What keeps a base from being merged into: rounding it anew would swallow what is merged."""
    if spec.model.quantization == "none":
        return []
    return [problem("start_merge_rounds", field="model.start_as", given=spec.model.quantization)]


def _differences(spec: JobSpec, before: Mapping[str, Any], quantization: str, target: str) -> list[Problem]:
    """What is not as in the run that trained the adapter, so that the adapter would not fit."""
    found = []
    values: dict[str, Any]
    if spec.model.quantization != quantization:
        values = {"given": spec.model.quantization, "allowed": quantization, "target": target}
        found.append(problem("start_from_quantization", field="model.quantization", **values))
    found += _other_head(spec, before, target)
    was, now = _last_tuner(before), _with_tokens(spec.tuner.model_dump(), spec.model.add_tokens)
    if was["kind"] != now["kind"]:
        values = {"given": now["kind"], "allowed": was["kind"], "target": target}
        return [*found, problem("start_from_tuner", field="tuner.kind", **values)]
    for name, value in now.items():
        if name not in (*ONLY_AT_FIRST, *MAY_CHANGE) and not _alike(was.get(name), value):
            values = {"setting": f"tuner.{name}", "given": str(value), "allowed": str(was.get(name)), "target": target}
            code = "start_from_rank" if name == "rank" else "start_from_setting"
            found.append(problem(code, field=f"tuner.{name}", **values))
    return found


def _last_tuner(before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The tuner of the adapter, with the settings that it had or would have had."""
    tuner = TUNERS[before["tuner"]["kind"]]
    spec = tuner.Spec.model_validate(before["tuner"])
    if isinstance(tuner, Phased):
        last = tuner.phases(spec, 2)[-1].tuner
        spec = TUNERS[last["kind"]].Spec.model_validate(last)
    found = spec.model_dump()
    found = _with_tokens(found, before.get("model", {}).get("add_tokens"))
    if found.get("initialisation") in ("pissa", "pissa_niter", "olora"):
        # written with what it started as beside it: see engine/tuners/starts.py
        found |= {"rank": 2 * found["rank"], "alpha": found["alpha"] * (2**0.5 if found["rslora"] else 2)}
    return found


def _with_tokens(tuner: Mapping[str, Any], new: str | None) -> dict[str, Any]:
    """The settings with new tokens among those that are trained: there they stand from the second run on."""
    if "train_tokens" not in tuner or not new:
        return dict(tuner)
    return {**tuner, "train_tokens": " ".join((*words(new), *words(tuner["train_tokens"])))}


def _alike(one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same; the order of words does not count."""
    is_text = isinstance(one, str) and isinstance(other, str)
    return set(words(one)) == set(words(other)) if is_text else one == other


def _unfoldable(spec: JobSpec, before: Mapping[str, Any], target: str) -> list[Problem]:
    """What keeps the adapter from becoming a part of a base."""
    kind = before["tuner"]["kind"]
    if TUNERS[kind].merges and _head(before) == "language":
        return []
    if other := _other_head(spec, before, target):
        return other
    return [problem("start_cannot_merge", field="model.start_from", target=target, tuner=kind)]


def _other_head(spec: JobSpec, before: Mapping[str, Any], target: str) -> list[Problem]:
    given, allowed = _head(before), OBJECTIVES[spec.objective.kind].head
    if given == allowed:
        return []
    return [problem("start_from_head", field="model.start_from", target=target, given=given, allowed=allowed)]


def _head(before: Mapping[str, Any]) -> str:
    return OBJECTIVES[before["objective"]["kind"]].head
