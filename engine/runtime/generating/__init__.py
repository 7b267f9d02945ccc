"""Who answers when rows are drafted: one kind a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.runtime.child import Context
from engine.runtime.generating.endpoint import Endpoint
from engine.runtime.generating.local import Local
from engine.runtime.generating.protocol import Generator

GENERATORS: dict[str, Callable[[Context, Any], Generator]] = {
    "endpoint": Endpoint.of,
    "local": Local.of,
}
"""Kind of a generator → what makes one of a job and its settings, which are in `engine/specs/generators.py`."""
