"""A run's spec as YAML: what `atelier train FILE` takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml


def as_yaml(spec: Mapping[str, Any]) -> str:
    """Return the whole spec; what is empty is left out, since empty is what it would be."""
    return str(yaml.safe_dump(without_empty(spec), sort_keys=False, allow_unicode=True, width=100))


def without_empty(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that have a value."""
    return {
        key: without_empty(value) if isinstance(value, Mapping) else value
        for key, value in spec.items()
        if value is not None
    }
