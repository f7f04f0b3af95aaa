"""Gathering: clocks measured again and again, and all agents asked for their traces at one moment.

Of the engine it needs one thing: `ask(address, what, **arguments)`, which brings a question to an agent and its answer
back, or raises. Dask's scheduler, a program that uses Ray and the simulation of a large fleet have one each.

Whoever does not answer, answers something else, or is too slow, costs the others nothing: each question has a
deadline of its own, and what went wrong stands in the manifest beside the name.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

from .. import __version__
from ..texts import of_error
from .clock import History, Sample, clock_identity
from .manifest import NAME, Gathered, Manifest, Member
from .node import PROTOCOL, Agent, Request, safe_name

__all__ = ["AgentState", "Expected", "Gatherer"]

_BURST = 8  # questions of which the best is kept
_AT_A_TIME = 400  # agents that are asked at once: each takes a connection, of which Dask keeps 512
_ASKING = 0.0005  # seconds that asking one takes
_QUESTIONS_PER_SECOND = 50.0  # about clocks, in all, while nothing else happens
_PERIOD = 10.0  # seconds between two bursts, at least, once there are some
_FIRST_PERIOD = 1.0
_STARTING = 1.0  # seconds in which a new agent is not asked: it may not be one yet
_LEAD = 0.05  # seconds from the request to the moment that is asked for, at least
_LONGEST_LEAD = 2.0
_PING_TIMEOUT = 5.0


@dataclass
class Expected:
    """A member of whom there should be a trace.

    Parameters
    ----------
    member : Member
        Its `name` is that of its flight file.
    agent : str
        Who makes its trace.
    problem : str
        What is known to be wrong with it.
    """

    member: Member
    agent: str
    problem: str = ""


@dataclass
class AgentState:
    """What is known of an agent."""

    address: str
    clock: str = ""
    host: str = ""
    directories: list = field(default_factory=list)
    problem: str = ""


class Gatherer:
    """Asks agents. The machine that it is on has the reference clock.

    Parameters
    ----------
    ask : callable
        ``await ask(address, what, **arguments)``: an answer of the agent's method `what`.
    made_by : str
        What the manifests say has made them.
    own : Agent, optional
        Of this process, for flight files of this machine.

    The reference is CLOCK_MONOTONIC here, and what the wall clock was ahead of it at the beginning: it takes no steps.
    Thread safety: one event loop.
    """

    def __init__(self, ask: Callable[..., Awaitable], made_by: str, own: Agent | None = None) -> None:
        self._ask = ask
        self.made_by = made_by
        self.own = own
        self._watched: dict[str, float] = {}  # agents whose clocks are measured also between snapshots: since when
        self.agents: dict[str, AgentState] = {}
        self.histories: dict[str, History] = {}
        self._refreshing: dict[str, asyncio.Future] = {}
        self.clock = clock_identity()
        self.offset = time.time_ns() - time.monotonic_ns()
        self.reference = f"CLOCK_MONOTONIC of {os.uname().nodename}"

    def now(self) -> int:
        """The reference clock."""
        return time.monotonic_ns() + self.offset

    # ---- who is there ----

    async def greet(self, addresses: Iterable[str]) -> None:
        """Get to know agents that are new, or were not to be reached."""
        new = [one for one in addresses if one not in self.agents or self.agents[one].problem]
        await self._all(self._greet, new)

    async def _greet(self, address: str, limit: float = _PING_TIMEOUT) -> None:
        state = AgentState(address)
        try:
            answer = await asyncio.wait_for(self._ask(address, "hello"), limit)
            state.problem = _mismatch(answer)
            if not state.problem:
                state.clock, state.host = answer["clock"], answer["host"]
                state.directories = list(answer["directories"])
        except Exception as error:  # noqa: BLE001 - whatever the engine raises
            state.problem = _trouble(error, limit)
            known = self.agents.get(address)
            if known is not None:
                state.clock, state.host, state.directories = known.clock, known.host, known.directories
        self.agents[address] = state

    def watch(self, address: str) -> None:
        """Measure its clock from now on."""
        self._watched.setdefault(address, time.monotonic())

    def forget(self, address: str) -> None:
        """It has left for good."""
        self._watched.pop(address, None)
        self.agents.pop(address, None)

    # ---- clocks ----

    def _by_clock(self) -> dict[str, list[str]]:
        """The agents that can be asked for each clock that is not ours."""
        found: dict[str, list[str]] = {}
        for state in self.agents.values():
            if not state.problem and state.clock != self.clock:
                found.setdefault(state.clock, []).append(state.address)
        return found

    async def measure(self) -> None:
        """Ask each clock a burst of questions, by one agent of its machine."""
        clocks = self._by_clock()
        for gone in set(self.histories) - set(clocks):
            del self.histories[gone]
        await self._all(self._measure, list(clocks.items()))

    async def _measure(self, clock: tuple[str, list[str]]) -> None:
        identity, addresses = clock
        history = self.histories.setdefault(identity, History())
        for address in addresses[:3]:  # the first may have gone
            try:
                burst = [await self._question(address, identity) for _ in range(_BURST)]
            except Exception as error:  # noqa: BLE001
                self.agents[address].problem = _trouble(error, _PING_TIMEOUT)
                continue
            history.add(one for one in burst if one is not None)
            return

    async def _question(self, address: str, identity: str) -> Sample | None:
        sent = self.now()
        answer = await asyncio.wait_for(self._ask(address, "hello"), _PING_TIMEOUT)
        received = self.now()
        return Sample(sent, answer["now"], received) if answer["clock"] == identity else None

    async def keep_measuring(self) -> None:
        """Until it is cancelled. Not more often than the engine can well bear, however many machines there are."""
        period = _FIRST_PERIOD
        while True:
            await asyncio.sleep(max(period, len(self.histories) * _BURST / _QUESTIONS_PER_SECOND))
            now = time.monotonic()
            await self.greet([one for one, since in self._watched.items() if now - since > _STARTING])
            await self.measure()
            period = min(2 * period, _PERIOD)

    # ---- traces ----

    async def snapshot(
        self,
        expected: list[Expected],
        *,
        url: str = "",
        last: float | None = None,
        timeout: float = 60.0,
        reason: str = "",
        explain: Callable[[Member], Awaitable[str]] | None = None,
    ) -> tuple[Manifest, dict[str, str]]:
        """A trace of each member, as things were at one moment.

        `explain` is asked about those of whom there is none.

        Returns
        -------
        (Manifest, dict)
            The dict has for each agent the token by which its traces can be fetched; with a URL they are
            there, and so is the manifest.
        """
        began = time.monotonic()
        deadline = began + timeout
        addresses = {one.agent for one in expected if one.agent} | set(self.agents)
        at = self.now() + int(1e9 * self._lead(len(addresses)))
        answers: dict[str, dict] = {}

        async def bring(address: str) -> None:
            # Who was never met, or has not answered, is met now: that takes nobody else's time.
            limit = min(_PING_TIMEOUT, timeout / 4)
            if address not in self.agents or self.agents[address].problem:
                await self._greet(address, limit)
            if self.agents[address].problem:
                return
            await self._refresh(address, limit)
            await collect(address)

        async def collect(address: str, directories: list[str] | None = None, prefix: str = "") -> None:
            request = self._request(address, at, last, url, prefix)
            seconds = max(1.0, deadline - time.monotonic())
            try:
                asked = self._ask(address, "collect", request=request.as_dict(), directories=directories)
                answers[prefix or address] = await asyncio.wait_for(asked, seconds)
            except Exception as error:  # noqa: BLE001
                self.agents[address].problem = _trouble(error, seconds)

        async def collect_own() -> None:
            if self.own is not None:
                answers[""] = await self._collect_own(at, last, url)

        await asyncio.gather(collect_own(), self._all(bring, sorted(addresses)))
        tokens = {address: answer["token"] for address, answer in answers.items()}
        for gone, by in self._replaced(answers):
            await collect(by, self.agents[gone].directories, prefix=gone)
            if gone in answers:
                tokens[by + " " + gone] = answers[gone]["token"]
        members = _members(expected, answers, self.agents)
        if explain is not None:
            await self._all(_explained(explain), [one for one in members if not one.traces])
        manifest = Manifest(self.made_by, at, last, self.reference, reason, time.monotonic() - began, members)
        if url:
            await asyncio.to_thread(_write, url, manifest)
        return manifest, tokens

    def _lead(self, agents: int) -> float:
        """Seconds until the moment: time enough to ask everybody before it."""
        trips = [one.samples[-1].round_trip for one in self.histories.values() if one.samples]
        return min(_LONGEST_LEAD, _LEAD + agents * _ASKING + 1e-9 * (_BURST + 2) * max(trips, default=0))

    async def _refresh(self, address: str, limit: float) -> None:
        """A fresh burst of questions for the clock of an agent, one for all who need it."""
        clock = self.agents[address].clock
        if clock == self.clock:
            return
        running = self._refreshing.get(clock)
        if running is None:
            running = self._refreshing[clock] = asyncio.ensure_future(self._measure((clock, [address])))
            running.add_done_callback(lambda _: self._refreshing.pop(clock, None))
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.shield(running), limit)

    def _request(self, address: str, at: int, last: float | None, url: str, prefix: str = "") -> Request:
        clock = self.agents[address].clock if address else self.clock
        history = self.histories.get(clock, History())
        samples = [(one.sent, one.theirs, one.received) for one in history.samples]
        name = safe_name((prefix or address).rpartition("/")[2] or "reference")
        return Request(at, last, samples, self.offset if clock == self.clock else None, url, name, self.reference)

    async def _collect_own(self, at: int, last: float | None, url: str) -> dict:
        try:
            return await asyncio.to_thread(self.own.collect, self._request("", at, last, url).as_dict())
        except Exception as error:  # noqa: BLE001
            return {"token": "", "files": [], "problem": of_error(error)}

    def _replaced(self, answers: dict[str, dict]) -> list[tuple[str, str]]:
        """Agents that are gone, and for each one that sees the same files."""
        good = {(one.clock, one.host): one.address for one in self.agents.values() if one.address in answers}
        lost = [one for one in self.agents.values() if one.address not in answers and one.directories]
        return [(one.address, good[one.clock, one.host]) for one in lost if (one.clock, one.host) in good]

    async def _all(self, what: Callable[..., Awaitable], items: list) -> None:
        limit = asyncio.Semaphore(_AT_A_TIME)

        async def one(item) -> None:
            async with limit:
                await what(item)

        await asyncio.gather(*(one(item) for item in items))


def _explained(explain: Callable[[Member], Awaitable[str]]) -> Callable[[Member], Awaitable[None]]:
    async def ask(member: Member) -> None:
        member.problem = await explain(member) or member.problem

    return ask


def _mismatch(answer) -> str:
    """What is wrong with who answers like that; empty: nothing."""
    if not isinstance(answer, dict):
        return "what answers is no agent of ringbuf"
    if answer.get("problem"):
        return str(answer["problem"])
    if answer.get("protocol") != PROTOCOL:
        return f"it has ringbuf {answer.get('version')}, which this ringbuf ({__version__}) does not understand"
    return ""


def _trouble(error: Exception, seconds: float) -> str:
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return f"no answer within {seconds:.3g} s"
    return f"not to be reached: {of_error(error)}"


def _members(expected: list[Expected], answers: dict[str, dict], agents: dict[str, AgentState]) -> list[Member]:
    """Each member with its traces, and those whom nobody has expected."""
    members = []
    files = {address: list(answer["files"]) for address, answer in answers.items()}
    for one in expected:
        member = one.member
        own = safe_name(member.name)
        mine = [file for file in files.get(one.agent, ()) if _is_of(file, own, member.pid)]
        for file in mine:
            files[one.agent].remove(file)
            _add(member, file, own)
        if not member.problem and not member.traces:
            known = one.problem if one.agent in answers else ""
            member.problem = known or _why(one, answers, agents) or one.problem
        members.append(member)
    for address, rest in files.items():
        for file in rest:
            # Of a worker that the engine has forgotten, or of a program that was started by one.
            if file["trace"] is not None or file["problem"]:
                name = _stem(file["path"])
                host = agents[address].host if address in agents else os.uname().nodename
                other = Member(name, role="process", host=host, pid=file["pid"])
                _add(other, file, name)
                members.append(other)
    return members


def _stem(path: str) -> str:
    return os.path.basename(path).removesuffix(".ringbuf")


def _is_of(file: dict, name: str, pid: int) -> bool:
    return _stem(file["path"]).partition("+")[0] == name or (pid != 0 and file["pid"] == pid)


def _add(member: Member, file: dict, name: str) -> None:
    if file["problem"]:
        member.problem = f"{file['path']}: {file['problem']}"
    if file["trace"] is not None:
        member.traces.append(Gathered(**file["trace"]))
    if _stem(file["path"]).partition("+")[0] == name:
        member.pid = file["pid"] or member.pid
        member.state = "alive" if file["used"] else "ended" if file.get("ended") else "dead"


def _why(one: Expected, answers: dict[str, dict], agents: dict[str, AgentState]) -> str:
    """Why there is nothing of it."""
    if one.agent in answers:
        return answers[one.agent].get("problem") or "it has no flight file, or ended before the time asked for"
    state = agents.get(one.agent)
    return state.problem if state is not None and state.problem else "nobody was there to ask"


def _write(url: str, manifest: Manifest) -> None:
    from ..places import place_of

    place_of(url).write(NAME, manifest.to_json().encode())
