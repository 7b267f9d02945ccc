"""Prompts that people edit: texts with names in braces, such as {passage}, that are filled in for each row."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from engine.specs.problem import Problem, problem

_NAME = re.compile(r"\{([a-z_]+)\}")


def wrong_names(prompt: str, field: str, *, known: Collection[str], needed: Collection[str]) -> list[Problem]:
    """What is wrong with the names in a prompt: unknown ones, and those that must be in it and are not."""
    there = set(_NAME.findall(prompt))
    allowed = ", ".join(f"{{{name}}}" for name in known)
    unknown = [
        problem("spec_prompt_name", field=field, given=f"{{{name}}}", allowed=allowed) for name in there - set(known)
    ]
    missing = [problem("spec_prompt_lacks", field=field, name=f"{{{name}}}") for name in needed if name not in there]
    return sorted(unknown, key=lambda one: str(one.values["given"])) + missing


def filled(prompt: str, values: Mapping[str, object]) -> str:
    """The prompt with its names replaced, once: braces in what is filled in stay what they are."""
    return _NAME.sub(lambda found: str(values[found[1]]) if found[1] in values else found[0], prompt)
