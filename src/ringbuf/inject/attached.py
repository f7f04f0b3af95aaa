"""Recording that begins, and ends, in a process that runs: what `ringbuf attach` asks of it.

A request comes as a text, by `sys.remote_exec` or a socket (`listen.py`): lines, of which the first is what to do, the
second the path of a channel, and the others words as in ``RINGBUF``. So is the answer: ``ok`` or ``error``, and a text.
The program does not fail of it, nor prints anything.
"""

import os
import sys

from .. import inject
from .._core import Channel, call_in_main_thread
from .options import parse_words

__all__ = ["answer", "answer_file"]

_PATIENCE = 5.0  # seconds for the main thread to come, where it must

_recordings: "dict[str, _Attached]" = {}  # by the path of the channel


class _Attached:
    """What has begun."""

    def __init__(self, channel: Channel, what: "dict[str, list[str]]") -> None:
        self.channel = channel
        self._undo: list = []
        self._is_copying = inject.here is None
        sink = inject.Sink(channel)
        if self._is_copying:
            inject.here = channel  # events that the program declares from now on are recorded here too
        try:
            if "logging" in what:
                from .logs import record_logging

                self._undo.append(record_logging(sink))
            if "functions" in what:
                functions = inject.functions_of(sink, what)
                functions.start()
                self._undo.append(functions.stop)
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Record no more."""
        while self._undo:
            self._undo.pop()()
        if self._is_copying and inject.here is self.channel:
            inject.here = None
        self.channel.close()


def answer_file(request: str, reply: str) -> None:
    """Read a request from a file, and write the answer to another, which is there when it is whole."""
    try:
        with open(request, encoding="utf-8", errors="surrogateescape") as file:
            text = file.read()
        fd = os.open(f"{reply}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, answer(text).encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)
        os.rename(f"{reply}.new", reply)
    except OSError:
        pass  # who has asked is gone


def answer(text: str) -> str:
    """Do what a request says."""
    try:
        return f"ok\n{_obey(text.splitlines())}"
    except Exception as error:
        kind = "" if isinstance(error, (ValueError, OSError)) else f"{type(error).__name__}: "
        return f"error\n{kind}{error}"


def _obey(lines: "list[str]") -> str:
    action, path, *words = [*lines, "", ""][: max(2, len(lines))]
    if action == "stop":
        return _in_main_thread(lambda: _stop(path))
    what = parse_words(words, ("size", "retell"))
    if action == "flight":
        return _in_main_thread(lambda: _start_flight(what))
    if action == "start":
        return _in_main_thread(lambda: _start(path, inject.attach(path), what))
    raise ValueError(f"{action!r} is nothing that can be asked for")


def _start(path: str, channel: Channel, what) -> str:
    if path in _recordings:
        raise ValueError("it is recorded already")
    _recordings[path] = _Attached(channel, what)
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _start_flight(what) -> str:
    from . import flight

    if any(path.endswith(flight.ENDING) for path in _recordings):
        raise ValueError("it has a flight recorder already")
    sizes = what.pop("size", [])
    channel = flight.new_channel(flight.size_of(sizes[-1]) if sizes else flight.SIZE)
    assert channel.path is not None
    _start(channel.path, channel, what)
    return channel.path


def _stop(path: str) -> str:
    """One recording; without a path, all."""
    ended = [one for one in _recordings if path in ("", one)]
    for one in ended:
        _recordings.pop(one).end()
    return str(len(ended))


def _in_main_thread(action):
    """Before Python 3.12 calls are recorded by a function that each thread has to set itself."""
    import _thread

    threading = sys.modules.get("threading")
    if hasattr(sys, "monitoring") or threading is None:
        return action()
    if threading.main_thread().ident == _thread.get_ident():
        return action()
    done, found = _thread.allocate_lock(), []
    done.acquire()

    def act() -> None:
        try:
            found.append((action(), None))
        except Exception as error:
            found.append((None, error))
        done.release()

    if not call_in_main_thread(act) or not done.acquire(True, _PATIENCE):
        raise OSError(f"its main thread has run no Python for {_PATIENCE:g} s, so it cannot begin to record")
    result, error = found[0]
    if error is not None:
        raise error
    return result
