"""Where channels of commands are: in memory, if there is a file system for that."""

from __future__ import annotations

import os

__all__ = ["memory"]


def memory() -> str | None:
    """A directory for `tempfile`."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
