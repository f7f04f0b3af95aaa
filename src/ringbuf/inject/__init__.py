"""Recording in programs that were not written for it: what `ringbuf record` makes them do.

`environment.py` says what the program is to record. A Python that starts with that environment, be it
the program or a descendant, imports site/sitecustomize.py, which calls `start`. Forked children go
on by themselves. A Python that ignores its environment (-I, -E) or has no site (-S) is left alone.

What runs in the program imports nothing that a Python does not have anyway (tests/test_imports.py): it would
take the program's time, its handlers at exit would stand before the program's, and a program that has a module of
that name would get the wrong one. It prints nothing: what is to be said goes to the recorder (`notes.py`).
"""

import os
import sys

from .._core import Channel, Event, moved_up
from ..record import later

__all__ = ["CHANNEL", "REQUEST", "WHAT", "WORDS", "begin", "start"]

CHANNEL = "RINGBUF_CHANNEL"  # path of the channel to record into
WHAT = "RINGBUF_INJECT"  # what to record: a line for each thing and its argument

REQUEST = "ringbuf.inject.request"  # name of the script that runs in a process which is attached to, and its module's

#: What can be recorded, and how; whether it takes a value (None: it may).
WORDS = {
    "functions": False, "c-functions": False, "include": True, "exclude": True, "logging": False, "audit": None,
    "gc": False, "exceptions": False,
    "min-duration": True, "max-depth": True,
}  # fmt: skip

here: "Channel | None" = None  # that of this process's own flight recorder


_attached: dict[str, Channel] = {}


class Sink:
    """What a `Tracer` is to those who record here, as far as they need one: events in the channel, told by texts."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel

    def event(self, name: str, /, **types: str) -> Event:
        """As `Tracer.event`, for numbers, str and integers with labels."""
        text = ",".join(f"{field}:{kind}" for field, kind in types.items())
        fields = [(field, kind.partition("{")[0], None) for field, kind in types.items()]
        number = self.channel.declare_event(name, "", text)
        return Event(self.channel, number, name, "", text, fields, [None] * len(fields), None)


def start() -> None:
    """Record what the environment says, from now on. A program does not fail of it, nor print anything."""
    try:
        _start(Sink(attach(os.environ[CHANNEL])), parse(os.environ[WHAT]))
    except FileNotFoundError:
        pass  # the recording has ended
    except Exception as error:
        from .notes import tell

        tell(f"{type(error).__name__}: {error}")


def attach(path: str) -> Channel:
    """The recording's channel, by a descriptor that the program does not meet."""
    channel = _attached.get(path)
    if channel is None or channel.closed:
        channel = _attached[path] = Channel._attach(moved_up(os.open(path, os.O_RDWR | os.O_CLOEXEC)), None, None, path)
    return channel


def parse(text: str) -> dict[str, list[str]]:
    """{what: its arguments}"""
    what: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, _, argument = line.partition(" ")
        what.setdefault(name, []).extend([argument] if argument else [])
    return what


def _start(sink: Sink, what: dict[str, list[str]]) -> None:
    from . import children

    begin(sink, what, children.ACTIONS | dict.fromkeys(_PROGRAM_BEGINS, _leave_site), children.tell_displaced)


def begin(sink: Sink, what: dict[str, list[str]], actions: dict, displaced=None) -> None:
    """Record it from now on, before the program begins.

    Parameters
    ----------
    sink : Sink
    what : dict
        As from `parse`: of `WORDS`; ``retell`` as of `Functions`.
    actions : dict
        What else to do about audit events, by their names.
    displaced : callable, optional
        As of `Functions`.
    """
    from . import audit

    record = audit.recorder(sink, what["audit"]) if "audit" in what else None
    audit.watch(record, actions | {"import": _on_import})
    later.expect_arming()
    if "gc" in what or "exceptions" in what:
        from . import notes, raised

        if "gc" in what:
            raised.record_collections(sink)
        if "exceptions" in what and not raised.record_exceptions(
            sink, what.get("include", ()), what.get("exclude", ())
        ):
            notes.tell("its exceptions are not: that takes Python 3.12")
    if "watch" in what:
        _watch(sink, what)
    if "logging" in what:
        from .logs import record_logging

        record_logging(sink)
    if "functions" in what:
        functions_of(sink, what, displaced).start()


def functions_of(sink: Sink, what: dict[str, list[str]], displaced=None):
    """The `Functions` that it says."""
    from ..record.functions import Functions
    from ..watch.rules import seconds_of

    shortest, deepest = what.get("min-duration"), what.get("max-depth")
    if deepest and not (deepest[-1].isdecimal() and int(deepest[-1])):
        raise ValueError(f"max-depth: {deepest[-1]!r} is no number of calls")
    return Functions(
        sink, what.get("include", ()), what.get("exclude", ()), displaced, "c-functions" in what, "retell" in what,
        seconds_of(shortest[-1], "min-duration") if shortest else 0.0, int(deepest[-1]) if deepest else None,
    )  # fmt: skip


def _watch(sink: Sink, what: dict[str, list[str]]) -> None:
    """As `ringbuf record --snapshot-on` says: the triggers, and the directory."""
    from ..watch.watch import Watch

    (directory,) = what["watch-directory"]
    Watch(sink, directory, what["watch"], last=None, at_most="1/s", keep=100, max_size=None)


_PROGRAM_BEGINS = [f"cpython.run_{what}" for what in ("command", "file", "interactivehook", "module", "stdin")]


def _on_import(_event, args) -> None:
    later.arm(args[0])


def _leave_site(_event, _args) -> None:
    """The program begins. Of what started us (site/sitecustomize.py), nothing is left."""
    if getattr(sys.modules.get("sitecustomize"), "__name__", None) == "ringbuf.inject.site":
        del sys.modules["sitecustomize"]
