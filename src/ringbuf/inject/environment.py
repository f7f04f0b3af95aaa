"""The environment of a program that is to record: the recorder's side of this package."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from . import CHANNEL, WHAT
from .notes import NOTES

__all__ = ["environment"]

_SITE = str(Path(__file__).with_name("site"))


def environment(channel: str, what: Mapping[str, list[str]], notes: str) -> dict[str, str]:
    """The environment of a program that is to record into a channel.

    Parameters
    ----------
    channel : str
        Its path.
    what : mapping of str to list of str
        ``functions``, ``logging``, ``audit``: what to record; ``include``, ``exclude``: modules;
        with their arguments, patterns without line ends.
    notes : str
        Where the program says what cannot be recorded (`notes.Notes.address`).
    """
    added = {CHANNEL: channel}
    if what:
        lines = [f"{name} {argument}" for name, arguments in what.items() for argument in arguments or [""]]
        folders = [_SITE, *filter(None, [os.environ.get("PYTHONPATH")])]
        added |= {WHAT: "\n".join(lines), NOTES: notes, "PYTHONPATH": os.pathsep.join(folders)}
    return os.environ | added
