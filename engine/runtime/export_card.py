"""The model card of an export: what was learned, from what, how, and how far the export is from the chat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engine.exporters.card import Card, render
from engine.runtime.export_order import Order
from engine.specs.merge import MergeSpec


def card_of(order: Order, checks: Mapping[str, Any], lines: Sequence[str]) -> str:
    """The card as Markdown. It holds no row of the data and no path of this machine."""
    other = "the run's own model" if "compared" in checks else "the chat"
    sections = {
        "Data": _data(order),
        **({"Merged": _merged(order.merge)} if order.merge else _trained(order)),
        "Scores": {
            "run and step": order.target.text,
            "evaluation loss": order.checkpoint.eval_loss,
        },
        f"Compared with {other}": _comparison(order, checks),
    }
    licence = order.base.licence if order.base else None
    lineage = order.base.facts.get("derived_from") if order.base else None
    return render(Card(order.run_spec.name, order.base_name, licence, lines, lineage, sections))


def _data(order: Order) -> dict[str, Any]:
    return {
        "dataset": order.version.name,
        "version": order.version.version,
        "sha256": order.version.sha256,
        "usable rows": order.version.usable_rows,
        "evaluation share": order.run_spec.data.eval_fraction,
        "longest row, tokens": order.run_spec.data.max_length,
    }


def _trained(order: Order) -> dict[str, dict[str, Any]]:
    return {"Method": _method(order), "Settings": _settings(order)}


def _merged(merge: MergeSpec) -> dict[str, Any]:
    return {
        **{f"method: {key}": value for key, value in merge.method.model_dump().items()},
        **{f"source {one.target}": f"weight {one.weight:g}" for one in merge.sources},
        "common base": merge.base or merge.model.id,
        "result": merge.form,
        "seed": merge.seed,
    }


def _method(order: Order) -> dict[str, Any]:
    spec = order.run_spec
    return {
        **{f"objective: {key}": value for key, value in spec.objective.model_dump().items()},
        **{f"tuner: {key}": value for key, value in spec.tuner.model_dump().items()},
        "base while training": f"quantisation {spec.model.quantization}, {order.checkpoint.dtype}",
        "started from": spec.model.start_from or "the base",
        "seed": spec.seed,
    }


def _settings(order: Order) -> dict[str, Any]:
    settings = order.run_spec.training.model_dump(exclude_none=True)
    if order.batch is None:
        return settings
    told = "ran out of memory; went on with batch size {batch_size} and accumulation {gradient_accumulation}"
    return {**settings, "memory": told.format(**order.batch)}


def _comparison(order: Order, checks: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "form": f"{order.spec.form}, base {order.spec.base}",
        **{f"written in {one['format']}": f"{one['agreement']:.4f}, {one['kl']}" for one in checks["tried"]},
        **(_decisions(checks) if "compared" in checks else _tokens(checks)),
        "mean KL divergence, nats": f"{checks['kl']:.5f}, at most {checks['max_kl']:.5f}",
    }


def _tokens(checks: Mapping[str, Any]) -> dict[str, str]:
    unit = "answer tokens of rows that were not trained on"
    return {
        "answer tokens compared": f"{checks['num_tokens']} ({_origins(checks['tokens_from'])})",
        **_caution(checks, unit),
        "same likeliest token": _agreement(checks),
    }


def _decisions(checks: Mapping[str, Any]) -> dict[str, str]:
    """What a head was compared on, and how many of the texts the lines above write as the run reads them."""
    same = {"labels": "same label", "scores": "same one of two is better"}
    return {
        "rows compared": f"{checks['num_rows']} ({_origins(checks['rows_from'])})",
        "decisions": str(checks["num_compared"]),
        **_caution(checks, "rows that were not trained on"),
        "texts that the lines above write token for token as in training": (
            f"{checks['num_alike']} of {checks['num_sequences']}"
        ),
        same[checks["compared"]]: _agreement(checks),
    }


def _origins(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def _agreement(checks: Mapping[str, Any]) -> str:
    return f"{checks['agreement']:.4f}, at least {checks['min_agreement']:.4f}"


def _caution(checks: Mapping[str, Any], unit: str) -> dict[str, str]:
    few = checks.get("caution")
    told = f"fewer than {{least}} {unit}: {{held_out}} held-out, {{evaluation}} evaluation, {{training}} training"
    return {"caution": told.format(**few["values"])} if few else {}
