"""Who drafts rows: a model behind an address that speaks OpenAI's chat protocol, or one of this studio."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import field_validator

from engine.specs.base import EntrySpec, SpecError, setting
from engine.specs.problem import problem


class GeneratorSpec(EntrySpec):
    """The settings of a generator."""

    lane: ClassVar[str]
    """A model of this machine waits for its turn behind runs; a server does the work elsewhere."""


class Endpoint(GeneratorSpec):
    """A server with OpenAI's chat completions: Ollama, vLLM, llama.cpp and LM Studio have it, and most services."""

    lane = "cpu"
    kind: Literal["endpoint"] = "endpoint"
    url: str = setting(
        ...,
        "Address",
        "Where the server's interface begins, as in http://localhost:11434/v1.",
        simple=True,
        min_length=1,
        max_length=2000,
    )
    model: str = setting(..., "Model", "The model's name on that server.", simple=True, min_length=1, max_length=300)
    price_in: float = setting(
        0.0,
        "Price of prompts",
        "What a million tokens of prompts cost there; 0 where it costs nothing.",
        ge=0.0,
        le=1e6,
    )
    price_out: float = setting(
        0.0,
        "Price of answers",
        "What a million tokens of answers cost there; 0 where it costs nothing.",
        ge=0.0,
        le=1e6,
    )
    at_once: int = setting(4, "At once", "Requests that are under way at the same time.", ge=1, le=64)
    tries: int = setting(
        5,
        "Tries",
        "How often a request is made before the job stops; the pauses between them grow.",
        ge=1,
        le=20,
    )
    timeout_s: float = setting(120.0, "Patience", "How long an answer may take.", unit="s", ge=1.0, le=3600.0)

    @field_validator("url")
    @classmethod
    def _without_a_query(cls, value: str) -> str:
        if "?" in value or "#" in value:
            raise SpecError(problem("spec_endpoint_query", field="generator.url"))
        return value


class Local(GeneratorSpec):
    """A base or checkpoint of this studio, on this machine."""

    lane = "gpu"
    kind: Literal["local"] = "local"
    target: str = setting(
        ..., "Model or checkpoint", "base:MODEL, JOB or JOB@STEP.", simple=True, min_length=1, max_length=300
    )


GENERATORS: dict[str, type[GeneratorSpec]] = {"endpoint": Endpoint, "local": Local}
"""Kind of a generator → its settings; how it is asked is in `engine/runtime/generating/`."""
