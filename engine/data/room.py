"""How long a sequence may be, and what becomes of what is longer."""

from __future__ import annotations

from dataclasses import dataclass, replace

UNBOUNDED = 2**31


@dataclass(frozen=True, slots=True)
class Room:
    """At most `max_length` tokens. `truncation` is `cut_end`, `cut_start`, `drop`, `split`, or `auto`: as is usual."""

    max_length: int = UNBOUNDED
    truncation: str = "auto"

    def or_else(self, usual: str) -> Room:
        """With `usual` where nothing else was chosen."""
        return replace(self, truncation=usual) if self.truncation == "auto" else self
