"""The language in which the command line speaks: `--language`, else the environment's, else English."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from app.language import LANGUAGES, Text, text

VARIABLES = ("LC_ALL", "LC_MESSAGES", "LANG")


def language(arguments: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the language of a call, from its arguments before anything has parsed them: help is a sentence too.

    >>> language(["--language", "zh", "jobs"], {}), language(["jobs"], {"LANG": "zh_CN.UTF-8"}), language([], {})
    ('zh', 'zh', 'en')
    """
    for place, argument in enumerate(arguments):
        if not argument.startswith("-"):
            break
        name, _, value = argument.partition("=")
        if name == "--language":
            given = value or next(iter(arguments[place + 1 :]), "")
            return given if given in LANGUAGES else "en"
    wish = next((environment[name] for name in VARIABLES if environment.get(name)), "en")
    short = wish.replace("_", "-").split("-")[0].lower()
    return short if short in LANGUAGES else "en"


def speech() -> Text:
    """Return the sentences for this process."""
    return text(language(sys.argv[1:], os.environ))
