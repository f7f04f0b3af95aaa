"""A flight recorder for a Ray cluster: tasks and actors recorded, the dead as well, on one clock.

    ray.init(runtime_env=ringbuf.ray.runtime_env())
    recorder = ringbuf.ray.start()
    ...
    recorder.snapshot("what-happened", last=30)

Workers learn by an environment variable that they are to record: Ray's one hook for the start of workers stays the
program's. On each node an actor that needs no CPU is the agent for the node's files.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import threading
import time

from ..fleet.gather import Expected, Gatherer
from ..fleet.manifest import NAME, Manifest, Member
from ..fleet.node import Agent, default_base, tidy
from ..places import Local, place_of

__all__ = ["Recorder", "runtime_env", "start"]

_PIECE = 4 << 20  # bytes of a file that are fetched at a time
_DIRECTORY, _SIZE = "RINGBUF_RAY_DIRECTORY", "RINGBUF_RAY_SIZE"
_CLOSING = 5.0  # seconds that an agent may take to tidy up


def runtime_env(given: dict | None = None, *, directory: str | None = None, size: int = 4 << 20) -> dict:
    """What to start Ray's workers with, for ``ray.init`` or a job, so that they record.

    Parameters
    ----------
    given : dict, optional
        A runtime environment, to which this is added.
    directory : str, optional
        Of the flight files, on each node; by default a new one in memory.
    size : int
        Bytes of each worker's ring.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        The environment says already what RINGBUF is to be.
    """
    if not 65536 <= size <= 1 << 34:
        raise ValueError(f"size is 64 KiB to 16 GiB, not {size!r}")
    environment = dict(given or {})
    variables = dict(environment.get("env_vars") or {})
    if "RINGBUF" in variables:
        raise ValueError(f"the runtime environment has RINGBUF={variables['RINGBUF']!r} already")
    directory = directory or os.path.join(default_base(), "ray", secrets.token_hex(4))
    variables |= {"RINGBUF": "ray", _DIRECTORY: directory, _SIZE: str(size)}
    return {**environment, "env_vars": variables}


def start(environment: dict | None = None) -> Recorder:
    """Put an agent on each node of the cluster that this program is connected to.

    Parameters
    ----------
    environment : dict, optional
        What `runtime_env` has given; by default, what the job was started with.

    Raises
    ------
    ValueError
        The job was not started with `runtime_env`.
    """
    import ray

    if environment is None:
        environment = dict(ray.get_runtime_context().runtime_env)
    variables = environment.get("env_vars") or {}
    if _DIRECTORY not in variables:
        raise ValueError("start the job with ray.init(runtime_env=ringbuf.ray.runtime_env())")
    return Recorder(variables[_DIRECTORY])


class Recorder:
    """The agents of a cluster, and what is known of its clocks. From `start`; a context manager.

    The clock of this program's machine is the reference. Nodes that join later get an agent within seconds, or with
    the next snapshot. Thread safety: any thread.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._actors: dict[str, object] = {}
        self._nodes: dict[str, dict] = {}
        self._gatherer = Gatherer(self._ask, "ringbuf.ray")
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._loop.run_forever, name="ringbuf-ray", daemon=True).start()
        self._call(self._look_for_nodes())
        self._measuring = asyncio.run_coroutine_threadsafe(self._keep_measuring(), self._loop)
        self._is_closed = False

    def _call(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _ask(self, node: str, what: str, **arguments):
        return await getattr(self._actors[node], what).remote(**arguments)

    async def _look_for_nodes(self) -> None:
        import ray

        self._nodes = {one["NodeID"]: one for one in await asyncio.to_thread(ray.nodes)}
        alive = {node for node, one in self._nodes.items() if one["Alive"]}
        for node in set(self._actors) - alive:
            del self._actors[node]
            self._gatherer.forget(node)
        for node in sorted(alive - set(self._actors)):
            self._actors[node] = _agent_on(node, os.path.join(self._directory, node))
            self._gatherer.watch(node)

    async def _keep_measuring(self) -> None:
        looking = asyncio.ensure_future(self._keep_looking())
        try:
            await self._gatherer.keep_measuring()
        finally:
            looking.cancel()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(5.0)
            with contextlib.suppress(Exception):  # Ray is being restarted, or has gone
                await self._look_for_nodes()

    def snapshot(self, url, *, last: float | None = 30.0, timeout: float = 60.0, reason: str = "") -> Manifest:
        """A trace set of what all workers have recorded, at one moment; also of those that have died.

        Parameters, results and errors as of `ringbuf.dask.snapshot`.
        """
        if last is not None and not last >= 0:
            raise ValueError(f"last is a number of seconds or None, not {last!r}")
        if not timeout > 0:
            raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
        if self._is_closed:
            raise ValueError("the recorder is closed")
        place = place_of(url)
        if place.has(NAME):
            raise FileExistsError(17, "there is a trace set already", place.path)
        return self._call(self._snapshot(place, last, timeout, reason))

    async def _snapshot(self, place, last, timeout: float, reason: str) -> Manifest:
        began = time.monotonic()
        await self._look_for_nodes()
        expected = [self._expected(node, one) for node, one in self._nodes.items()]
        url = "" if isinstance(place, Local) else place.path
        manifest, tokens = await self._gatherer.snapshot(expected, url=url, last=last, timeout=timeout, reason=reason)
        manifest.path = place.path
        # An agent is no member, but for what is wrong with its node.
        manifest.members = [one for one in manifest.members if one.role != "node" or _is_trouble(one)]
        for one in manifest.members:
            one.role = "worker" if one.role == "process" else one.role
        if not url:
            left = max(5.0, timeout - (time.monotonic() - began))
            await asyncio.gather(*(self._fetch(manifest, place, node, token, left) for node, token in tokens.items()))
        await asyncio.to_thread(place.write, NAME, manifest.to_json().encode())
        return manifest

    def _expected(self, node: str, about: dict) -> Expected:
        member = Member(node, about.get("NodeName", ""), "node", about.get("NodeManagerHostname", ""))
        return Expected(member, node, "" if about["Alive"] else "the node is dead")

    async def _fetch(self, manifest: Manifest, place, node: str, token: str, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._fetch_all(place, node, token), seconds)
        except Exception as error:  # noqa: BLE001 - whatever Ray raises
            if isinstance(error, OSError) and error.filename is not None:
                raise  # it cannot be written here
            for member in manifest.members:
                kept = [one for one in member.traces if place.has(f"{one.directory}/metadata")]
                if len(kept) < len(member.traces):
                    member.traces, member.problem = kept, f"not to be fetched: {type(error).__name__}: {error}"

    async def _fetch_all(self, place, node: str, token: str) -> None:
        listing = await self._ask(node, "listing", token=token)
        for name in sorted(listing, key=lambda one: one.endswith("/metadata")):
            with place.draft(name) as draft:
                offset = 0
                while offset < listing[name]:
                    piece = await self._ask(node, "fetch", token=token, name=name, offset=offset, size=_PIECE)
                    if not piece:
                        raise OSError(f"{name} was cut short while it was fetched")
                    await asyncio.to_thread(draft.write, piece)
                    offset += len(piece)
        await self._ask(node, "drop", token=token)

    def close(self) -> None:
        """End the agents. Workers go on recording, as long as the job does. Twice is harmless."""
        import ray

        if self._is_closed:
            return
        self._is_closed = True
        self._measuring.cancel()
        with contextlib.suppress(Exception, asyncio.CancelledError):
            self._call(_others_end())
        for actor in self._actors.values():
            with contextlib.suppress(Exception):  # it has gone before
                ray.get(actor.close.remote(), timeout=_CLOSING)
                ray.kill(actor)
        self._loop.call_soon_threadsafe(self._loop.stop)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *exc_info) -> None:
        self.close()


async def _others_end() -> None:
    """Cancel what else the event loop does, and wait for it."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for one in others:
        one.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def _is_trouble(member: Member) -> bool:
    """Of a node: that nobody has recorded there is no trouble."""
    return not member.problem.startswith("it has no flight file")


class _Agent(Agent):
    """As an actor. It does not record itself."""

    def __init__(self, directories: list[str]) -> None:
        super().__init__(directories)
        self.expect_ended()
        tidy(os.path.join(default_base(), "ray"))


def _agent_on(node: str, directory: str):
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    actor = ray.remote(num_cpus=0, max_concurrency=8)(_Agent)
    options = {"scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}
    return actor.options(**options, runtime_env={"env_vars": {"RINGBUF": ""}}).remote([directory])
