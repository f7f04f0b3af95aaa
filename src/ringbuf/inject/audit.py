"""Audit events of the interpreter (PEP 578), as events ``audit`` with their arguments as text."""

import sys

from .._core import AuditHook, glob_matches
from ..texts import encodable

__all__ = ["QUIET", "describe", "is_path", "recorder", "watch"]

_MANY = 8  # arguments, and elements of each
_LONG = 200  # characters of each

#: Left out unless patterns are given: what the interpreter and its library do all the time, and nobody asks for.
QUIET = (
    "object.__*",
    "builtins.id",
    "sys._getframe*",
    "code.__new__",
    "function.__new__",
    "array.__new__",
    "marshal.*",
    "gc.*",
    "cpython.*",
    "sys.monitoring.*",
    "ctypes.addressof",
    "ctypes.cdata*",
    "ctypes.call_function",
    "ctypes.get_errno",
    "ctypes.set_errno",
)


def recorder(sink, patterns: list[str]):
    """Who records audit events: ``choose(name)`` gives what to call with name and arguments, or None.

    Parameters
    ----------
    sink
        Has ``event``, as a Tracer.
    patterns : list of str
        Of the names of those to record; if there are none, all but `QUIET`.
    """
    record = sink.event("audit", name="str", args="str")

    def act(name, args):
        record(encodable(name), describe(args))

    def choose(name):
        if patterns:
            wanted = any(glob_matches(pattern, name) for pattern in patterns)
        else:
            wanted = not any(glob_matches(pattern, name) for pattern in QUIET)
        return act if wanted else None

    return choose


def watch(choose, actions: dict) -> None:
    """Do something about audit events from now on. There is no way back: hooks cannot be removed.

    Parameters
    ----------
    choose : callable or None
        As from `recorder`.
    actions : dict
        By name of event, what else to do.
    """

    def both(name):
        one, other = choose and choose(name), actions.get(name)
        if one is None or other is None:
            return one or other

        def act(name, args):
            one(name, args)
            other(name, args)

        return act

    sys.addaudithook(AuditHook(both))


def describe(args: tuple) -> str:
    """Arguments as text of bounded size. Runs none of the program's code: other objects stand as their types."""
    return encodable(", ".join(_describe_each(args, 0)))


def _describe_each(values, depth: int) -> list[str]:
    return [_describe(value, depth) for value in values[:_MANY]] + ["..."] * (len(values) > _MANY)


def _describe(value, depth: int) -> str:
    kind = type(value)
    if kind in (str, bytes):
        return repr(value[:_LONG]) + "..." * (len(value) > _LONG)
    if kind in (bool, float) or value is None or (kind is int and abs(value) < 1 << 64):
        return repr(value)
    if kind in (tuple, list) and depth < 2:
        begin, end = ("(", ")") if kind is tuple else ("[", "]")
        return begin + ", ".join(_describe_each(value, depth + 1)) + end
    if is_path(value):
        return repr(str(value)[:_LONG])
    return f"<{kind.__qualname__}>"


def is_path(value) -> bool:
    """Of pathlib, whose code may run."""
    kind = type(value)
    return kind.__name__ in _PATHS and getattr(sys.modules.get("pathlib"), kind.__name__, None) is kind


_PATHS = ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")
