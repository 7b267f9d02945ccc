"""Telling how far light work is, and leaving it when that is asked."""

from __future__ import annotations

from engine.runtime.child import Context, Stopped


def tell(context: Context, rows: int, total: int) -> None:
    """Show people how many rows are done; 0 where the total is not known.

    Raises:
        Stopped: the job was cancelled or paused meanwhile.
    """
    context.progress(rows, total)
    flags = context.flags()
    if flags.cancel or flags.pause:
        raise Stopped
