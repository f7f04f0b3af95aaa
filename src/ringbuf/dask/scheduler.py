"""The scheduler's side: what it records itself, the clocks of all machines, snapshots and what triggers them."""

from __future__ import annotations

import asyncio
import logging
import os
import time

from ..fleet.gather import Expected, Gatherer
from ..fleet.manifest import Member
from ..fleet.node import Agent, open_flight, safe_name
from ..record.files import remove_unused
from ..texts import encodable, of_error
from .agents import PREFIX, directory_of

__all__ = ["Coordinator"]

_TOPIC = "ringbuf-trigger"
_REMEMBERED = 3600.0  # seconds for which a worker that died is one of whom there should be a trace
_HELLO_TIMEOUT = 2.0
_STARTING = 15.0  # seconds that a worker may take from joining to its plug-ins
_SETTLING = 2.0  # seconds from a worker's death to the snapshot: to see what the scheduler does about it

logger = logging.getLogger(__name__)


class Coordinator:
    """Records the scheduler, and gathers from all. Lives on the scheduler's event loop."""

    def __init__(self, scheduler, options: dict) -> None:
        from . import Options

        self.options = Options(**options)
        self.is_closed = False
        self._scheduler = scheduler
        directory = directory_of(self.options.base(), "scheduler " + scheduler.address)
        self._name = "scheduler"
        self.tracer = open_flight(directory, self._name, self.options.size, channel="dask-scheduler")
        event = self.tracer.event
        self._transition = event("transition", key="str", start="str", finish="str", worker="str")
        self._added = event("worker_added", worker="str", name="str", nanny="str")
        self._removed = event("worker_removed", worker="str", expected="bool", processing="u32")
        self._alive = event("scheduler_alive", workers="u32", tasks="u32")
        self.gatherer = Gatherer(self._ask, "ringbuf.dask", Agent([directory]))
        self._expected: dict[str, Expected] = {}
        self._joined: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._sent_away: set[str] = set()
        self._tasks: set[asyncio.Task] = set()
        self._triggered = -1e9
        self._handlers = {one.__name__: one for one in self._make_handlers()}
        scheduler.handlers.update(self._handlers)
        for address in scheduler.workers:
            self.add_worker(address)
        self._start(self.gatherer.keep_measuring())
        self._start(self._keep_noting())

    def _start(self, work) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("ringbuf: %s", of_error(task.exception()))

    async def _ask(self, address: str, what: str, **arguments):
        if not address:
            return await asyncio.to_thread(getattr(self.gatherer.own, what), **arguments)
        return await getattr(self._scheduler.rpc(address), PREFIX + what)(**arguments)

    async def _keep_noting(self) -> None:
        """So that an idle scheduler is told from one that hangs."""
        while True:
            self._alive(len(self._scheduler.workers), len(self._scheduler.tasks))
            await asyncio.sleep(0.5)

    # ---- what happens ----

    def add_worker(self, address: str) -> None:
        state = self._scheduler.workers[address]
        label = encodable(str(state.name))
        self._added(address, label, state.nanny or "")
        member = Member(address, "" if label == address else label, "worker", state.host)
        self._gone.pop(address, None)
        self._joined[address] = time.monotonic()
        self._expected[address] = Expected(member, state.nanny or address)
        self.gatherer.watch(state.nanny or address)

    def remove_worker(self, address: str) -> None:
        """Who was expected to go was forgotten before, in `log_event`."""
        self._joined.pop(address, None)
        self._gone.setdefault(address, time.monotonic())

    def restart(self) -> None:
        """The program restarts all workers: nobody is missed."""
        self._sent_away.update(self._scheduler.workers)

    def transition(self, key, start: str, finish: str, worker) -> None:
        self._transition(encodable(str(key)), start, finish, worker if isinstance(worker, str) else "")

    def log_event(self, topic, msg) -> None:
        if topic == _TOPIC:
            self._trigger(str(msg.get("reason", "")) if isinstance(msg, dict) else str(msg))
        elif topic == "all" and isinstance(msg, dict) and msg.get("action") == "remove-worker":
            # Before the scheduler does anything about it.
            address = msg["worker"]
            expected = bool(msg.get("expected")) or address in self._sent_away
            self._sent_away.discard(address)
            self._removed(address, expected, len(msg.get("processing-tasks", ())))
            if expected:
                self._forget(address)
            elif self.options.on_death:
                self._trigger(f"worker {address} died", _SETTLING)

    def _forget(self, address: str) -> None:
        known = self._expected.pop(address, None)
        if known is not None and all(one.agent != known.agent for one in self._expected.values()):
            self.gatherer.forget(known.agent)

    # ---- snapshots ----

    def _trigger(self, reason: str, wait: float = 0.0) -> None:
        now = time.monotonic()
        if self.options.triggers is None or now - self._triggered < self.options.pause:
            return
        self._triggered = now
        self._start(self._triggered_snapshot(reason, wait))

    async def _triggered_snapshot(self, reason: str, wait: float) -> None:
        await asyncio.sleep(wait)
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        name = f"{moment}-{safe_name(reason)[:60]}"
        base = self.options.triggers
        url = f"{base.rstrip('/')}/{name}" if "://" in base else "file://" + os.path.abspath(os.path.join(base, name))
        await self.snapshot(url=url, last=self.options.last, timeout=60.0, reason=reason)
        logger.info("ringbuf: %s: %s", reason, url)

    async def snapshot(self, url: str, last: float | None, timeout: float, reason: str):
        now = time.monotonic()
        for address in [one for one, since in self._gone.items() if now - since > _REMEMBERED]:
            del self._gone[address]
            self._forget(address)
        expected = [self._fresh(one) for one in self._expected.values()]
        expected.append(Expected(Member("scheduler", "", "", os.uname().nodename, os.getpid()), ""))
        return await self.gatherer.snapshot(
            expected, url=url, last=last, timeout=timeout, reason=reason, explain=self._explain
        )

    def _fresh(self, one: Expected) -> Expected:
        known = one.member
        left = "it has left, and no flight file: it ended well, or was never recorded"
        problem = left if known.name in self._gone else ""
        return Expected(Member(known.name, known.label, known.role, known.host), one.agent, problem)

    async def _explain(self, member: Member) -> str:
        """Why there is no trace of a worker, by asking itself."""
        if member.name not in self._scheduler.workers:
            return ""
        try:
            answer = await asyncio.wait_for(self._ask(member.name, "hello"), _HELLO_TIMEOUT)
        except (asyncio.TimeoutError, OSError):
            age = time.monotonic() - self._joined.get(member.name, 0)
            if age < _STARTING:
                return f"it has joined {age:.1f} s ago, and is not recorded yet"
            return f"the worker does not answer within {_HELLO_TIMEOUT:g} s, and has no flight file"
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            return of_error(error)
        problem = answer.get("problem") if isinstance(answer, dict) else "it has no plug-in of ringbuf"
        return str(problem or "")

    def _make_handlers(self):
        """Functions, for Dask looks at the names of their arguments."""

        async def ringbuf_snapshot(url="", last=None, timeout=60.0, reason=""):
            manifest, tokens = await self.snapshot(url, last, timeout, reason)
            return {"manifest": manifest.to_json(), "tokens": tokens}

        async def ringbuf_relay(agent="", what="", arguments=None):
            if what not in ("listing", "fetch", "drop"):
                raise ValueError(f"{what!r} is nothing that is passed on")
            return await self._ask(agent, what, **arguments)

        async def ringbuf_close():
            await self.close()

        return ringbuf_snapshot, ringbuf_relay, ringbuf_close

    async def close(self) -> None:
        """Record and measure no more; the file goes. Twice is harmless."""
        if self.is_closed:
            return
        self.is_closed = True
        for name, handler in self._handlers.items():
            if self._scheduler.handlers.get(name) is handler:
                del self._scheduler.handlers[name]
        for task in list(self._tasks):
            task.cancel()
        self.gatherer.own.close()
        path = self.tracer.channel.path
        self.tracer.close()
        remove_unused(path)
