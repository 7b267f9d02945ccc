"""Connections that are lost and come back: what to try again, and for how long."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from storage.errors import StoreError

Found = TypeVar("Found")
FIRST_PAUSE_S = 0.05
LONGEST_PAUSE_S = 2.0


def is_lost(error: BaseException) -> bool:
    """Whether the store was out of reach or held by others for a moment: the same work may succeed a little later."""
    if isinstance(error, StoreError):
        return error.code == "store_unreachable"
    if not isinstance(error, DBAPIError):
        return False
    if isinstance(error.orig, sqlite3.Error):
        return "locked" in str(error.orig)
    return error.connection_invalidated or isinstance(error, OperationalError | InterfaceError)


def patiently(work: Callable[[], Found], *, patience_s: float) -> Found:
    """Does one transaction, and again after a lost connection, until it succeeds or the patience (seconds) is over.

    The reply to a commit may be lost too: `work` must do no harm when it is done twice.
    """
    deadline, pause = time.monotonic() + patience_s, FIRST_PAUSE_S
    while True:
        try:
            return work()
        except (DBAPIError, StoreError) as error:
            if not is_lost(error) or time.monotonic() + pause > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
