"""Advice: a value or a finding, with the code of its sentence and where the rule comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Advice:
    """`code` and `values` make the sentence `advice.<code>`; `source` names the sentence `source.<source>`."""

    value: Any
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)
    source: str = "practice"
