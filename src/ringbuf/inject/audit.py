"""Audit events of the interpreter (PEP 578), as events ``audit`` with their arguments as text."""

from __future__ import annotations

import sys
from pathlib import PurePath

from ..texts import encodable

__all__ = ["describe", "record_audit"]

_MANY = 8  # arguments, and elements of each
_LONG = 200  # characters of each


def record_audit(tracer) -> None:
    """Record all audit events of this process from now on. There is no way back: hooks cannot be removed."""
    record = tracer.event("audit", name="str", args="str")

    def hook(name, args):
        try:
            record(name, describe(args))
        except Exception:
            pass  # what is raised here would stop what the program is doing

    sys.addaudithook(hook)


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
    if isinstance(value, PurePath) and kind.__module__.startswith("pathlib"):
        return repr(str(value)[:_LONG])
    return f"<{kind.__qualname__}>"
