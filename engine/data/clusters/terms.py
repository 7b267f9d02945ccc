"""What is compared of a row: the words that the model is given, as terms, without English words that tell nothing."""

from __future__ import annotations

import re

from engine.data.doctor.reading import Seen
from engine.data.doctor.words import WITHOUT_SPACES

MOST_TEXTS, HEAD, TAIL = 8, 1000, 400
"""Of many long texts, the beginnings and the ends: an instruction stands at one of them."""
NUMBER = "0"
"""The term of every number."""
_NOTHING = (
    "a about after again all also am an and any are aren as at be because been before being both but by can could"
    " couldn d did didn do does doesn doing don done down each either else every few for from get got had has hasn have"
    " haven having he her here hers him his how i if in into is isn it its just let ll m many may me might mine more"
    " most much must my no nor not of off on once only onto or other our ours out over own re s same shall she should"
    " so some such t than that the their theirs them then there these they this those through to too under until up us"
    " ve very was wasn we were weren what when where which while who whom whose why will with without won would wouldn"
    " you your yours"
)
NOTHING_SAID = frozenset(_NOTHING.split())
FIRST_SIGN = min(WITHOUT_SPACES.replace("-", ""))
"""No script without spaces has a sign before this one, so that most words need no second look."""
_RUN = re.compile(f"[{WITHOUT_SPACES}]+|[^\\W{WITHOUT_SPACES}]+")
_SCRIPT = re.compile(f"[{WITHOUT_SPACES}]")


def asked_of(row: Seen) -> str:
    """What the model is given, system texts included; of plain text, the text."""
    return "\n".join(_ends(text) for text in (row.given or row.answers)[:MOST_TEXTS])


def _ends(text: str) -> str:
    return text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} {text[-TAIL:]}"


def terms(text: str) -> list[str]:
    """The words that say something, in small letters; numbers as one; of scripts without spaces, pairs of signs.

    >>> terms("Refund 48213, please! 退款吗")
    ['refund', '0', 'please', '退款', '款吗']
    """
    found: list[str] = []
    for run in _RUN.findall(text.lower()):
        if run[0] >= FIRST_SIGN and _SCRIPT.match(run):
            found += [run[place : place + 2] for place in range(len(run) - 1)] or [run]
        elif run not in NOTHING_SAID:
            found.append(NUMBER if run.isdecimal() else run)
    return found
