"""A run's spec as YAML: what `atelier train FILE` takes."""

from __future__ import annotations

from typing import Any

import yaml

from engine.specs.job import JobSpec


def as_yaml(spec: JobSpec) -> str:
    """Return the whole spec; what is empty is left out, since empty is what it would be."""
    return str(
        yaml.safe_dump(_without_empty(spec.model_dump(mode="json")), sort_keys=False, allow_unicode=True, width=100)
    )


def _without_empty(data: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_empty(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if value is not None
    }
