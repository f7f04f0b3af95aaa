"""What a worker records: its tasks, their transitions, its waits for the GIL, the lag of its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import threading
import time

from ..fleet.node import Agent, open_flight
from ..fleet.waits import TICK, Longest, watch_gil
from ..record.files import clean, remove_unused
from ..texts import encodable
from .agents import directory_of, serve

__all__ = ["Recording"]

_ERROR = 1000  # characters of an error
_NAMES = 200  # of spans: each is declared for good; tasks beyond that are called "task"


class Recording:
    """Records a worker until `close`. Nothing that it does raises into the worker."""

    def __init__(self, worker, options: dict) -> None:
        from . import Options

        given = Options(**options)
        directory = directory_of(given.base(), worker.nanny or worker.address)
        self._worker = worker
        self.tracer = open_flight(directory, worker.address, given.size, channel="dask-worker")
        clean(directory, max_size=given.max_size)
        self._transition = self.tracer.event("transition", key="str", start="str", finish="str")
        self._erred = self.tracer.event("task_erred", key="str", error="str")
        started = self.tracer.event("worker", address="str", name="str", nanny="str", threads="u32")
        started(worker.address, encodable(str(worker.name)), worker.nanny or "", worker.state.nthreads)
        self._spans: dict[str, object] = {}
        self._closed = threading.Event()
        self.agent = Agent([directory])  # where there is no nanny; and to say who this is
        serve(worker, self.agent)
        _recordings[id(worker)] = self
        _record_tasks()
        # For what the tasks' own code records. A worker without a nanny may be a part of somebody's program.
        self._sets_variable = bool(worker.nanny) and "RINGBUF_DIR" not in os.environ
        if self._sets_variable:
            os.environ["RINGBUF_DIR"] = directory
        self._task = asyncio.ensure_future(self._watch_loop())
        watch_gil(self.tracer, self._closed)

    def transition(self, key, start: str, finish: str) -> None:
        with contextlib.suppress(ValueError):  # closed
            self._transition(encodable(str(key)), start, finish)

    def span(self, key):
        """Around a task: by the name of what it calls, as Dask's dashboard has it."""
        from dask.utils import key_split

        name = key_split(key)
        kind = self._spans.get(name)
        if kind is None:
            if len(self._spans) >= _NAMES:
                name = "task"
            try:
                kind = self.tracer.span_type(encodable(name), key="str")
            except (ValueError, OSError):  # no name for an event; or no room for one more
                kind = self.tracer.span_type("task", key="str")
            self._spans[name] = kind
        return kind(encodable(str(key)))

    def erred(self, key, result: dict) -> None:
        with contextlib.suppress(ValueError):  # it was closed while the task ran
            self._erred(encodable(str(key)), encodable(str(result.get("exception_text", ""))[:_ERROR]))

    async def _watch_loop(self) -> None:
        longest = Longest(self.tracer.event("event_loop_lag", ns="u64"))
        while not self._closed.is_set():
            before = time.monotonic_ns()
            await asyncio.sleep(TICK)
            longest.add(max(0, time.monotonic_ns() - before - int(TICK * 1e9)))

    def close(self) -> None:
        """Twice is harmless."""
        self._closed.set()
        self._task.cancel()
        _recordings.pop(id(self._worker), None)
        if self._sets_variable:
            os.environ.pop("RINGBUF_DIR", None)
            self._sets_variable = False
        self.agent.close()
        path = self.tracer.channel.path
        self.tracer.close()
        remove_unused(path)


# ---- tasks ----

_recordings: dict[int, Recording] = {}  # by the worker's id(), which lives as long: a process may have several


@functools.cache
def _record_tasks() -> None:
    """Put spans around the function in which Dask runs a task, in whatever thread that is.

    Dask has no hook there. If it has no such function either, tasks are seen by their transitions alone.
    """
    from distributed import worker as module

    run = getattr(module, "_run_task", None)
    if not callable(run):
        return
    names = list(inspect.signature(run).parameters)
    if "key" not in names or "execution_state" not in names:
        return
    key_at, state_at = names.index("key"), names.index("execution_state")

    @functools.wraps(run)
    def _run_task(*args, **kwargs):
        with contextlib.ExitStack() as stack:
            erred = _begin(stack, args, key_at, state_at)
            result = run(*args, **kwargs)
            if erred is not None and isinstance(result, dict) and result.get("op") == "task-erred":
                erred(result)
            return result

    module._run_task = _run_task


def _begin(stack, args: tuple, key_at: int, state_at: int):
    """Begin the span of a task, to end with `stack`; what to tell of an error."""
    try:
        recording = _recordings[id(args[state_at]["worker"])]
        stack.enter_context(recording.span(args[key_at]))
        return functools.partial(recording.erred, args[key_at])
    except Exception:  # noqa: BLE001 - no worker of ours, or whatever Dask has changed: the task is what counts
        return None
