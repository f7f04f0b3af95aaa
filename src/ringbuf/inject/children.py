"""Children of the program that will not be recorded, as far as it starts them itself: they are told to the recorder.

A Python is recorded if it starts with the recording's environment (`environment.py`). Who gives a child another, or
changes ``PYTHONPATH``, or tells Python to ignore it, starts one that records nothing, and that cannot say so.
"""

import os
import sys

from . import CHANNEL, WHAT
from .audit import is_path
from .notes import tell

__all__ = ["ACTIONS"]

_SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")


def _popen(_event, args) -> None:
    executable, command, _cwd, environment = args
    _look(executable, command, environment)


def _exec(_event, args) -> None:
    _look(*args)


def _spawn(_event, args) -> None:
    _mode, *rest = args
    _look(*rest)


_told = []


def tell_displaced(*_event) -> None:
    """Calls of functions are not recorded any more: this Python has one place for whoever wants to know of them."""
    if not _told:
        _told.append(True)
        tell("its functions are not, while it has a profile function of its own (cProfile, sys.setprofile): "
             "from Python 3.12 on there is room for both")  # fmt: skip


#: What to do about audit events.
ACTIONS = {
    "subprocess.Popen": _popen,
    "os.exec": _exec,
    "os.posix_spawn": _exec,
    "os.spawn": _spawn,
}
if not hasattr(sys, "monitoring"):
    ACTIONS["sys.setprofile"] = tell_displaced  # by C code: sys.setprofile itself is ours


def _look(executable, command, environment) -> None:
    words = [_text(word) for word in command] if type(command) in (list, tuple) else [_text(command)]
    program = _text(executable) or (words[0] if words else "")
    why = _why_not(program, words, environment)
    if why:
        tell(why, pid=0, program=" ".join(words[:4]))


def _why_not(program: str, words: list[str], environment) -> str | None:
    if not _is_python(program):
        return None
    for word in words[1:]:
        if not word.startswith("-") or word in ("-", "-c", "-m"):
            break
        if not word.startswith("--") and any(flag in word for flag in "IES"):
            return f"it was started with {word}"
    found = os.environ if environment is None else environment
    if type(found) not in (dict, type(os.environ)):
        return None  # to look into it may run anything
    if not (_get(found, WHAT) and _get(found, CHANNEL)):
        return "it was started with an environment of its own"
    if _SITE not in _get(found, "PYTHONPATH").split(os.pathsep):
        return "it was started with a PYTHONPATH of its own"
    return None


def _get(environment, name: str) -> str:
    value = environment.get(name)
    return _text(environment.get(name.encode()) if value is None and type(environment) is dict else value)


def _text(value) -> str:
    if type(value) is bytes:
        return value.decode("utf-8", "surrogateescape")
    return str(value) if type(value) is str or is_path(value) else ""


def _is_python(program: str) -> bool:
    """By its name, or that of what runs it."""
    path = _found(program)
    if path is None or os.path.basename(path).startswith("python"):
        return path is not None
    try:
        with open(path, "rb") as file:
            return file.read(2) == b"#!" and b"python" in file.readline(200)
    except OSError:
        return False


def _found(program: str) -> str | None:
    if "/" in program:
        return program
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = os.path.join(folder, program)
        if program and os.path.isfile(path):
            return path
    return None
