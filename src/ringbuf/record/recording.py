"""Events of a program's own tracers, copied to the `ringbuf record` that has started the program, if one has, or to
the flight recorder that RINGBUF has started in it.

The program's own channels are what they are without it: it may read, snapshot and record them. Values and contexts are
asked for once for both. A record counts as recorded if the program's own channel took it.
"""

from __future__ import annotations

import os

from .. import inject
from .._core import Channel, Event
from ..ctf import schema
from ..errors import RegionError
from . import contexts as _contexts

__all__ = ["copy_of"]


def copy_of(channel: Channel, name: str, declared, enum_classes, contexts) -> tuple[Event | None, tuple | None]:
    """The event that gets what an event of `channel` gets, and its contexts unless the core encodes them.

    It has the recording's contexts, and of those of its own all but bytes and arrays of any length.
    """
    recording = _recording()
    if recording is None or recording.uuid == channel.uuid:
        return None, None
    theirs = schema.parse(recording.contexts)
    more = [one for one in contexts if one.field not in theirs and one.field.kind not in ("bytes", "sequence")]
    texts = _contexts.text(more), schema.to_text(declared)
    try:
        number = recording.declare_event(name, *texts)
    except (OSError, ValueError):
        return None, None  # no room is left, or it is closed: no affair of the program's
    copy = Event(recording, number, name, *texts, schema.parts(declared), enum_classes, None)
    copied = (*(_contexts.provided(field, {}) for field in theirs), *more)
    return copy, None if not more and all(one.per_thread for one in copied) else copied


def _recording() -> Channel | None:
    path = os.environ.get(inject.CHANNEL)
    if not path:
        return None if inject.here is None or inject.here.closed else inject.here
    try:
        return inject.attach(path)
    except (OSError, RegionError):
        return None  # it has ended
