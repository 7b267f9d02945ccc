"""Numbers, sizes, durations and times as people read them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app.language import Text


def number(value: float | None, digits: int = 3) -> str:
    """Return a number with so many significant digits; a dash where there is none.

    >>> number(0.000234567), number(1234567), number(0.70812)
    ('0.000235', '1,234,567', '0.708')
    """
    if value is None or not math.isfinite(value):
        return "–"
    if value == 0 or (float(value).is_integer() and abs(value) < 1e12):
        return f"{int(value):,}"
    if abs(value) >= 10**digits:
        return f"{value:,.0f}"
    if abs(value) < 1e-5 or abs(value) >= 1e12:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def percent(part: float | None) -> str:
    """Return a share as people read it: 0.4 %, 31 %."""
    if part is None:
        return "–"
    value = 100 * part
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %"


def share(part: float, whole: float) -> str:
    """Return one number as a share of another, in whole hundredths.

    >>> share(1, 3)
    '33 %'
    """
    return f"{100 * part / whole:.0f} %"


def plain(value: float) -> str:
    """Return a setting's number as it was meant.

    >>> plain(0.5), plain(131072.0), plain(2.5), plain(2.5e-05)
    ('0.5', '131,072', '2.5', '0.000025')
    """
    if float(value).is_integer():
        return number(value)
    return f"{value:.10f}".rstrip("0") if 1e-7 < abs(value) < 1e-4 else f"{value:g}"


def short(value: float) -> str:
    """Return a large count in a few characters: 252 k, 4.9 M."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if unit == "k" else limit)
            return f"{scaled:.0f} {unit}" if abs(scaled) >= 100 or unit == "k" else f"{scaled:.1f} {unit}"
    return number(value)


def size(num_bytes: float | None) -> str:
    """Return bytes in decimal units: 1.8 GB."""
    if num_bytes is None:
        return "–"
    value = float(num_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if value >= 100 or unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def readable(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a reason with byte counts as people read them: what is called `…_bytes` is one."""
    return {
        name: size(value) if name.endswith("_bytes") and isinstance(value, int | float) else value
        for name, value in values.items()
    }


def duration(t: Text, seconds: float | None) -> str:
    """Return a duration in its two largest units: 6 min 12 s."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    whole = max(0, round(seconds))
    parts = [("d", whole // 86400), ("h", whole // 3600 % 24), ("min", whole // 60 % 60), ("s", whole % 60)]
    first = next((place for place, (_, count) in enumerate(parts) if count), 3)
    return " ".join(t(f"unit.{unit}", n=count) for unit, count in parts[first : first + 2] if count or first == 3)


def when(t: Text, at: float | None, now: float) -> str:
    """Return a time of day, with the date where it is another day than now."""
    if at is None:
        return "–"
    moment, today = datetime.fromtimestamp(at), datetime.fromtimestamp(now)
    if moment.date() == today.date():
        return f"{moment:%H:%M}"
    day = t("unit.day", month=moment.month, day=moment.day, name=t(f"unit.month.{moment.month}"))
    return f"{day} {moment:%H:%M}" if moment.year == today.year else f"{day} {moment.year}"
