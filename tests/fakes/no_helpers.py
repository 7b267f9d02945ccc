"""A worker's standing children, left out: they have tests of their own."""

from __future__ import annotations


class NoHelpers:
    """Takes the place of `Helpers`."""

    def __init__(self, *_):
        pass

    def tick(self):
        pass

    def close(self):
        pass

    def kill(self):
        pass

    def is_busy(self):
        return False
