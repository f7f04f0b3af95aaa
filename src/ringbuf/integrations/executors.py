"""concurrent.futures: a span for each work item, which follows from the span that submitted it.

    undo = ringbuf.integrations.executors.install(tracer)

For pools of threads and of processes, and what asyncio gives to them: ``loop.run_in_executor``, ``asyncio.to_thread``.
The span has the name of the function. Work items of other pools are linked by `Tracer.linked`.
"""

from __future__ import annotations

import functools
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextvars import Context

from . import tracer_or_default

__all__ = ["install"]


def install(tracer=None):
    """See the module. Returns a function that undoes it, for what is submitted from then on."""
    tracer = tracer_or_default(tracer)
    undo = [_follow(kind, tracer) for kind in (ThreadPoolExecutor, ProcessPoolExecutor)]

    def end() -> None:
        while undo:
            undo.pop()()

    return end


def _follow(kind: type, tracer):
    before = kind.submit

    @functools.wraps(before)
    def submit(executor, function, /, *args, **named):
        if callable(function) and not tracer.channel.closed:
            function = tracer.linked(function, name=_name_of(function))
        return before(executor, function, *args, **named)

    def undo() -> None:
        if kind.submit is submit:
            kind.submit = before

    kind.submit = submit
    return undo


def _name_of(function) -> str | None:
    """That of what the program has submitted: asyncio, and `map` of processes, wrap it. None: the function's own."""
    while isinstance(function, functools.partial):
        is_wrapped = isinstance(getattr(function.func, "__self__", None), Context) or (
            getattr(function.func, "__module__", None) == "concurrent.futures.process"
        )
        function = function.args[0] if is_wrapped and function.args else function.func
    name = getattr(function, "__qualname__", None)
    return f"{function.__module__}.{name}" if isinstance(name, str) else None
