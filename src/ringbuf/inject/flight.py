"""``RINGBUF=flight python app.py``: a flight recorder in a program as it is. `_ringbuf_start` calls `start`.

It runs before the program, and imports nothing that a Python does not have anyway.
"""

import os
import sys

from .. import inject
from .options import parse_words

__all__ = ["DEFAULT", "ENDING", "SIZE", "new_channel", "options_of", "size_of", "start"]

DEFAULT = ("functions", "logging")  # what is recorded if nothing is said
_NAME = "flight"
_RAY = "ray"  # set by ringbuf.ray.runtime_env
ENDING = ".ringbuf"
SIZE = 32 << 20  # bytes of the buffers of all CPUs
_MOST = 32  # files of the dead in a directory that nobody has named; they are in memory
_CONTEXTS = "vpid:i32,vtid:i32"


def start() -> None:
    """Begin, as RINGBUF says; one line where it says nothing that can be done."""
    text = os.environ.get("RINGBUF", "")
    if text and not os.environ.get(inject.WHAT):  # else `ringbuf record` has this program already
        _try("RINGBUF", lambda: _begin_as_said(text))
    text = os.environ.get("RINGBUF_LISTEN", "")
    if text:
        from . import listen

        _try(listen.LISTEN, lambda: listen.start(text))


def _begin_as_said(text: str) -> None:
    if text == _RAY:
        from ..ray.worker import begin

        begin()
    else:
        _begin(*options_of(text))


def _try(variable: str, action) -> None:
    try:
        action()
    except (ValueError, OSError, RuntimeError) as error:
        _say(f"{variable}: {error}")
    except Exception as error:
        _say(f"{variable}: {type(error).__name__}: {error}")


def options_of(text: str) -> "tuple[dict[str, list[str]], int]":
    """What to record, and the bytes of the buffers, of a text such as ``flight,functions,include=shop,size=64M``."""
    kind, *words = [word.strip() for word in text.split(",")]
    if kind != _NAME:
        raise ValueError(f"{kind!r} is none of {_NAME} (as in flight,functions,logging,include=shop,size=64M)")
    what = parse_words([word for word in words if word], ("size",))
    sizes = what.pop("size", [])
    if not any(inject.WORDS.get(name) is not True for name in what):
        what |= {name: [] for name in DEFAULT}
    if {"include", "exclude", "c-functions"} & what.keys() and "functions" not in what:
        raise ValueError("include, exclude and c-functions are about functions: add functions")
    return what, size_of(sizes[-1]) if sizes else SIZE


def size_of(text: str) -> int:
    """Bytes: ``64M``."""
    from ..watch import rules

    return rules.size_of(text, "size")


def _begin(what: "dict[str, list[str]]", size: int) -> None:
    channel = inject.here = new_channel(size)
    sink = inject.Sink(channel)
    inject.begin(sink, what, {})
    if os.environ.get("RINGBUF_WATCH"):
        from ..watch.watch import from_environment

        from_environment(sink)


def new_channel(size: int):
    """In a file, which goes when the process ends well."""
    from ..record.automatic import channel_in, default_directory, remove_at_exit

    directory = default_directory()
    if not os.environ.get("RINGBUF_DIR"):
        _check(directory)
    channel = channel_in(directory, _NAME, _geometry(size))
    if os.environ.get("RINGBUF_KEEP") != "1":
        _remove_at_exit(remove_at_exit, channel)
    return channel


def _check(directory: str) -> None:
    """A directory whose name anybody can know: it must be ours. The dead may not fill it."""
    try:
        os.mkdir(directory, 0o700)
        return
    except FileExistsError:
        status = os.stat(directory, follow_symlinks=False)
    if status.st_uid != os.getuid() or status.st_mode & 0o022 or not os.path.isdir(directory):
        raise PermissionError(f"{directory} is somebody else's, or everybody may write in it: set RINGBUF_DIR")
    if len(os.listdir(directory)) > _MOST:
        from ..record.files import clean

        clean(directory, keep=_MOST // 2)


def _geometry(size: int) -> dict:
    """Of a channel with so many bytes for all CPUs, as far as powers of two allow."""
    of_each = max(size // (os.cpu_count() or 1), 16384)
    subbuf_size = 1 << min(18, max(12, (of_each // 4).bit_length() - 1))
    n_subbufs = 1 << min(14, max(1, (of_each // subbuf_size).bit_length() - 1))
    return {"mode": "overwrite", "subbuf_size": subbuf_size, "n_subbufs": n_subbufs, "contexts": _CONTEXTS}


def _remove_at_exit(remove_at_exit, channel) -> None:
    """In a child of multiprocessing its exit code decides: who knows that is there with multiprocessing."""
    from ..record.later import when_imported

    at_exit = remove_at_exit(channel)

    def again(_util) -> None:
        at_exit.cancel()
        remove_at_exit(channel)

    if "multiprocessing.util" not in sys.modules:
        when_imported("multiprocessing.util", again)


def _say(text: str) -> None:
    from ..texts import printable

    if sys.stderr is not None:
        sys.stderr.write(f"ringbuf: {printable(text)}\n")
