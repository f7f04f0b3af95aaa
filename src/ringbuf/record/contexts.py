"""Contexts: what every record says about where it was recorded."""

from __future__ import annotations

import os
import sys
import threading
from _contextvars import Context as EmptyContext
from _contextvars import ContextVar
from collections import namedtuple

from ..ctf import schema

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["BUILTIN", "Context", "provided", "resolve", "text"]


class Context(namedtuple("Context", ("field", "provider", "per_thread", "enum_class"), defaults=(False, None))):
    """One context field.

    Parameters
    ----------
    field : schema.Field
    provider : callable or None
        Its value for a record, from the recording thread; None: 0 or empty.
    per_thread : bool
        Constant for the thread: the core encodes it once (include/ringbuf/context.h).
    """

    __slots__ = ()
    field: schema.Field
    provider: Callable[[], object] | None
    per_thread: bool
    enum_class: type | None


_procnames: dict[int, str] = {}  # by pid: a forked child may have another


def _procname() -> str:
    """Asked once, as by the core: to open a file for each record takes longer than all the rest."""
    pid = os.getpid()
    if pid not in _procnames:
        _procnames.clear()
        _procnames[pid] = _read_procname()
    return _procnames[pid]


def _read_procname() -> str:
    try:
        with open("/proc/self/comm", "rb") as file:
            return file.read().rstrip(b"\n").decode("utf-8", "backslashreplace")  # it may be cut in a character
    except OSError:
        return ""


def _thread_name() -> str:
    # Not current_thread(): it would register a dummy for a thread that Python did not start.
    thread = threading._active.get(threading.get_ident())
    return thread.name if thread is not None else ""


def _task_name() -> str:
    if "asyncio" not in sys.modules:
        return ""
    import asyncio

    loop = asyncio._get_running_loop()
    task = asyncio.current_task(loop) if loop is not None else None
    return task.get_name() if task is not None else ""


#: The contexts that can be asked for by name.
BUILTIN = {
    "vpid": Context(schema.Field("vpid", "i32"), os.getpid, per_thread=True),
    "vtid": Context(schema.Field("vtid", "i32"), threading.get_native_id, per_thread=True),
    "procname": Context(schema.Field("procname", "str"), _procname, per_thread=True),
    "thread_name": Context(schema.Field("thread_name", "str"), _thread_name),
    "task_name": Context(schema.Field("task_name", "str"), _task_name),
}


class _Variable:
    """The value that a context variable has where a record is made: in a thread, a task of asyncio, a callback.

    Where it has none, its default; else 0 or an empty text.
    """

    __slots__ = ("_empty", "_get")

    def __init__(self, variable: ContextVar, empty) -> None:
        self._get, self._empty = variable.get, empty

    def __call__(self):
        return self._get(self._empty)

    def __reduce__(self):
        raise TypeError("a context variable does not pickle: give a function that returns its value")


def _where_it_has_none(variable: ContextVar, field: schema.Field, kind):
    """What is recorded there. TypeError: nothing can be."""
    try:
        return EmptyContext().run(variable.get)
    except LookupError:
        pass
    empty = {"str": "", "bytes": b"", "sequence": (), "int": 0, "uint": 0, "float": 0.0, "bool": False}.get(field.kind)
    if empty is None or isinstance(kind, type):
        raise TypeError(f"context {field.name!r}: give the context variable a default, for where it has no value")
    return empty


def resolve(contexts: Iterable) -> tuple[Context, ...]:
    """Contexts from what a user wrote: names of built-in ones, or (name, type, callable or contextvars.ContextVar).

    Raises
    ------
    ValueError
        An unknown name, or a name that appears twice.
    TypeError
        Neither a str nor a (name, type, callable) tuple.
    """
    found = tuple(_resolve_one(item) for item in contexts)
    schema.to_text(context.field for context in found)  # names are distinct
    return found


def _resolve_one(item) -> Context:
    if isinstance(item, str):
        if item not in BUILTIN:
            raise ValueError(f"context {item!r} is none of {', '.join(BUILTIN)}")
        return BUILTIN[item]
    try:
        name, kind, provider = item
    except (TypeError, ValueError):
        raise TypeError(f"a context is a name or a (name, type, callable) tuple, not {item!r}") from None
    (field,) = schema.from_mapping({name: kind})
    if isinstance(provider, ContextVar):
        provider = _Variable(provider, _where_it_has_none(provider, field, kind))
    if not callable(provider):
        raise TypeError(f"context {name!r}: {provider!r} is neither callable nor a ContextVar")
    return Context(field, provider, enum_class=kind if isinstance(kind, type) else None)


def text(contexts: Iterable[Context]) -> str:
    """Schema text of `contexts`."""
    return schema.to_text(context.field for context in contexts)


def provided(field: schema.Field, given: dict) -> Context:
    """Who provides a context field of a channel that somebody else made."""
    builtin = BUILTIN.get(field.name)
    if builtin is not None and builtin.field == field:
        return builtin
    if field.name in given:
        return given[field.name]
    return Context(field, None, per_thread=True)
