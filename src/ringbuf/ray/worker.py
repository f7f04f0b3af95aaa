"""What a worker of Ray records: a span for each task and each call of an actor's method.

`begin` is called as Python starts, by ``RINGBUF=ray``, before Ray is imported. The file is made with the first task:
only then a worker knows its node.
"""

import contextlib
import functools
import os
import threading

from ..record.later import when_imported

__all__ = ["begin"]

_MAX_SIZE = 256 << 20  # bytes of files of a node's workers that have ended
_NAMES = 200  # of spans: each is declared for good; what is beyond that is called "task"


def begin() -> None:
    """Record the tasks of this process, once it turns out to be a worker."""
    when_imported("ray._private.function_manager", _watch)


def _watch(module) -> None:
    """Put spans around what Ray looks up to run it. It has no hook there; changed, nothing is recorded."""
    manager = getattr(module, "FunctionActorManager", None)
    look_up = getattr(manager, "get_execution_info", None)
    if not callable(look_up):
        return
    recording = _Recording()

    @functools.wraps(look_up)
    def get_execution_info(self, job_id, function_descriptor):
        return recording.info(look_up(self, job_id, function_descriptor), function_descriptor)

    manager.get_execution_info = get_execution_info


class _Recording:
    """Of this process. Nothing that it does raises into a task."""

    def __init__(self) -> None:
        self._tracer = None
        self._is_broken = False
        self._spans = {}
        self._wrapped = {}

    def info(self, info, descriptor):
        """What Ray knows of a function, with one in its place that records."""
        key = descriptor.function_id
        if key not in self._wrapped:
            try:
                name = ".".join(part for part in (descriptor.class_name, info.function_name) if part)
                name = name.removeprefix(f"{descriptor.module_name}.")
                self._wrapped[key] = info, info._replace(function=self._in_spans(info.function, name))
            except Exception:  # noqa: BLE001 - whatever Ray has changed: the task is what counts
                return info
        before, wrapped = self._wrapped[key]
        return wrapped if before is info else info

    def _in_spans(self, function, name: str):
        import inspect

        if inspect.iscoroutinefunction(getattr(function, "method", function)):  # of an actor with an event loop

            @functools.wraps(function)
            def begin_run(*args, **kwargs):
                return self._awaited(name, function(*args, **kwargs))

            return begin_run

        @functools.wraps(function)
        def run(*args, **kwargs):
            span = self._span(name)
            if span is None:
                return function(*args, **kwargs)
            with span:
                return function(*args, **kwargs)

        return run

    async def _awaited(self, name: str, coroutine):
        span = self._span(name)
        if span is None:
            return await coroutine
        with span:
            return await coroutine

    def _span(self, name: str):
        if self._is_broken:
            return None
        try:
            if self._tracer is None:
                self._tracer = _open()
            kind = self._spans.get(name)
            if kind is None:
                kind = self._spans[name] = self._declared(name)
            return kind(*_who())
        except Exception as error:  # noqa: BLE001 - a full disk, or whatever Ray has changed
            self._is_broken = True
            _say(f"ringbuf: this worker is not recorded: {type(error).__name__}: {error}")
            return None

    def _declared(self, name: str):
        from ..texts import encodable

        fields = {"task": "str", "actor": "str"}
        try:
            return self._tracer.span_type(encodable(name) if len(self._spans) < _NAMES else "task", **fields)
        except (ValueError, OSError):  # no name for an event; or no room for one more
            return self._tracer.span_type("task", **fields)


def _open():
    import ray

    from ..fleet.node import open_flight
    from ..fleet.waits import watch_gil
    from ..record.files import clean

    context = ray.get_runtime_context()
    directory = os.path.join(os.environ["RINGBUF_RAY_DIRECTORY"], context.get_node_id())
    os.makedirs(os.path.dirname(directory), mode=0o700, exist_ok=True)
    size = int(os.environ.get("RINGBUF_RAY_SIZE", 4 << 20))
    with contextlib.suppress(OSError):  # there is none yet
        clean(directory, max_size=_MAX_SIZE)
    tracer = open_flight(directory, f"ray-{os.getpid()}", size, channel="ray-worker", leave=True)
    os.environ.setdefault("RINGBUF_DIR", directory)  # for what the tasks' own code records
    started = tracer.event("worker", worker="str", node="str", job="str")
    started(context.get_worker_id(), context.get_node_id(), context.get_job_id())
    watch_gil(tracer, threading.Event())
    return tracer


def _who() -> tuple:
    """The task that runs here, and the actor that it is of: its name, or its id."""
    import ray

    context = ray.get_runtime_context()
    actor = context.get_actor_id() or ""
    return context.get_task_id() or "", (context.get_actor_name() or actor) if actor else ""


def _say(text: str) -> None:
    import sys

    from ..texts import printable

    if sys.stderr is not None:
        sys.stderr.write(printable(text) + "\n")
