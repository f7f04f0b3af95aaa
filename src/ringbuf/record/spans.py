"""Spans from what a program already has: values whose types are to be told, functions to be traced."""

from __future__ import annotations

import enum
import functools
import operator

from .._core import SpanType, Traced

__all__ = ["traced", "type_of"]

_TYPES = ((bool, "bool"), (int, "i64"), (float, "f64"), (str, "str"), ((bytes, bytearray, memoryview), "bytes"))


def type_of(name: str, value: object) -> str | type[enum.Enum]:
    """The type of a field whose first value this is.

    Raises
    ------
    TypeError
        It has none.
    """
    if isinstance(value, enum.Enum) and isinstance(value.value, int):
        return type(value)
    for classes, kind in _TYPES:
        if isinstance(value, classes):
            return kind
    numpy_kind = getattr(getattr(value, "dtype", None), "kind", None)
    if numpy_kind in ("b", "f"):
        return "bool" if numpy_kind == "b" else "f64"
    try:
        operator.index(value)
    except TypeError:
        raise TypeError(
            f"field {name!r}: no type for {type(value).__name__}; "
            "a span's values are int, float, bool, str, bytes and members of enumerations"
        ) from None
    return "i64"


def traced(function, tracer, name: str | None):
    """A function that runs `function` in a span of its own: from its entry to its exit."""
    if isinstance(function, (classmethod, staticmethod)):
        return type(function)(traced(function.__func__, tracer, name))
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"trace takes a function, not {function!r}")
    if name is None:
        name = f"{function.__module__}.{function.__qualname__}"
    span = tracer.span_type(name)
    return functools.wraps(function)(_wrapper(function)(function, span))


def _wrapper(function):
    """By what the function is."""
    import inspect  # which takes longer than all that a program needs that traces no functions

    if inspect.iscoroutinefunction(function):
        return _coroutine
    if inspect.isasyncgenfunction(function):
        return _async_generator
    return _generator if inspect.isgeneratorfunction(function) else _plain


#: Functions in a class that it takes for static or class methods, if they are plain functions of Python's.
_IMPLICIT = ("__new__", "__init_subclass__", "__class_getitem__")


def _plain(function, span: SpanType):
    if getattr(function, "__name__", None) not in _IMPLICIT:
        return Traced(function, span)

    def run(*args, **kwargs):
        with span():
            return function(*args, **kwargs)

    return run


def _coroutine(function, span: SpanType):
    async def run(*args, **kwargs):
        with span():
            return await function(*args, **kwargs)

    return run


# A generator runs in the context of whoever asks for its next value. While it waits, it is not
# what goes on there, so each value is passed on by hand, outside of the span.


def _generator(function, span: SpanType):
    def run(*args, **kwargs):
        with span() as current:
            steps = function(*args, **kwargs)
            step, value = steps.send, None
            while True:
                try:
                    item = step(value)
                except StopIteration as end:
                    return end.value
                current._leave()
                try:
                    value = yield item
                    step = steps.send
                except GeneratorExit:
                    current._back()
                    steps.close()
                    return
                except BaseException as error:
                    step, value = steps.throw, error
                current._back()

    return run


def _async_generator(function, span: SpanType):
    async def run(*args, **kwargs):
        with span() as current:
            steps = function(*args, **kwargs)
            step, value = steps.asend, None
            while True:
                try:
                    item = await step(value)
                except StopAsyncIteration:
                    return
                current._leave()
                try:
                    value = yield item
                    step = steps.asend
                except GeneratorExit:
                    current._back()
                    await steps.aclose()
                    return
                except BaseException as error:
                    step, value = steps.athrow, error
                current._back()

    return run
