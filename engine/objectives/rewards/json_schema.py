"""1 for an answer that is JSON and fits a schema, else 0."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import model_validator

from engine.objectives.rewards import protocol
from engine.objectives.rewards.json_reading import NO_JSON, fits, read, unknown
from engine.objectives.rewards.protocol import Score, weight
from engine.specs.base import SpecError, setting
from engine.specs.problem import Problem, problem

FIELD = "objective.rewards.json_schema.text"


class JsonSchema:
    class Spec(protocol.RewardSpec):
        """What the JSON has to look like."""

        weight: float = weight("JSON schema", "1 where the answer is JSON that fits a schema.")
        text: str | None = setting(
            None,
            "JSON schema",
            "The schema as JSON; keywords that are not understood are refused.",
            max_length=20_000,
        )

        @model_validator(mode="after")
        def _is_understood(self) -> JsonSchema.Spec:
            if self.weight and not self.text:
                raise SpecError(problem("reward_needs", field=FIELD, reward="json_schema"))
            if self.text and (found := _refused(self.text)) is not None:
                raise SpecError(found)
            return self

    def targets(self, spec: Any) -> Mapping[str, str]:
        del spec
        return {}

    def ready(self, spec: Spec, means: Any) -> Score:
        del means
        schema = json.loads(str(spec.text))
        return lambda answers: [float(_fits(one.text, schema)) for one in answers]


def _refused(text: str) -> Problem | None:
    schema = read(text)
    if schema is NO_JSON:
        return problem("reward_schema_no_json", field=FIELD)
    keyword = unknown(schema)
    return problem("reward_schema_unknown", field=FIELD, keyword=keyword) if keyword is not None else None


def _fits(text: str, schema: Any) -> bool:
    value = read(text)
    return value is not NO_JSON and fits(value, schema)
