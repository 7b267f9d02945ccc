"""The clock of the machine room: leases, graces and pauses, in seconds. Tests divide them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """How long the worker waits for what."""

    lease_s: float = 60.0
    grace_s: float = 120.0
    """From the wish that a child ends to its kill: long enough for one step and one checkpoint."""
    backoff_s: float = 30.0
    """Pause before the first retry after a lost attempt; doubled for each further one."""
    stall_s: float = 600.0
    """A run that has not moved for so long, and for 20 of its own steps, hangs and is ended; six times as long before
    its first step."""
    poll_s: float = 0.1

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Settings:
        """Read `ATELIER_LEASE_S`, `ATELIER_GRACE_S`, `ATELIER_BACKOFF_S`, `ATELIER_STALL_S`."""
        default = cls()
        return cls(
            lease_s=float(environment.get("ATELIER_LEASE_S", default.lease_s)),
            grace_s=float(environment.get("ATELIER_GRACE_S", default.grace_s)),
            backoff_s=float(environment.get("ATELIER_BACKOFF_S", default.backoff_s)),
            stall_s=float(environment.get("ATELIER_STALL_S", default.stall_s)),
        )
