"""Settings laid over a spec: `--set a.b=value`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from engine.specs.problem import ProblemError, problem


def changed(wanted: dict[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Return the spec with `--set a.b=value` put in.

    Raises:
        ProblemError: a setting is not KEY=VALUE, or leads into something that is no section.
    """
    for setting in settings:
        key, equals, value = setting.partition("=")
        names = key.split(".")
        if not equals or not all(names):
            raise ProblemError([problem("usage_set", given=setting)])
        section = wanted
        for name in names[:-1]:
            if section.get(name) is None:
                section[name] = {}
            section = section[name]
            if not isinstance(section, dict):
                raise ProblemError([problem("usage_set", given=setting)])
        try:
            section[names[-1]] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ProblemError([problem("usage_set", given=setting)]) from error
    return wanted
