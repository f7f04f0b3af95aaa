"""A flight recorder for a Dask cluster: it survives its workers, and shows all of them on one clock.

    ringbuf.dask.install(client)
    ...
    ringbuf.dask.snapshot(client, "what-happened", last=30)

Or without a line of code, by Dask's configuration: ``distributed.scheduler.preload: [ringbuf.dask]``.

Every worker records into a file of its own: its tasks, their transitions, how long it waits for the GIL, how late
its event loop is, and what the tasks' code records with `ringbuf.Tracer`. Its nanny knows the file, so that it can be
read when the worker hangs or is dead. The scheduler records its own side, and measures the machines' clocks.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from ..fleet.manifest import NAME, Manifest
from ..fleet.node import default_base

if TYPE_CHECKING:
    import distributed

__all__ = [
    "Options", "dask_setup", "install", "install_async", "snapshot", "snapshot_async", "trigger", "uninstall",
]  # fmt: skip

_PIECE = 4 << 20  # bytes of a file that are fetched at a time: what the scheduler has of it in memory
_PLUGIN = "ringbuf"
_TOPIC = "ringbuf-trigger"


@dataclass(frozen=True)
class Options:
    """What is recorded, and where; the arguments of `install`.

    Parameters
    ----------
    directory : str, optional
        Of the flight files, on each machine: readable for their owner alone. By default below ``/dev/shm``, or, on
        machines without, the directory for temporary files.
    size : int
        Bytes of each process's ring.
    max_size : int
        Bytes that the files of dead workers of one nanny may take; the oldest go first.
    triggers : str, optional
        Where snapshots go that are not asked for: directories of the scheduler's machine, or URLs. Each is a new
        directory below, named by time and reason.
    on_death : bool
        With `triggers`: when a worker goes that nobody has sent away.
    last : float
        Seconds of a triggered snapshot.
    pause : float
        Seconds after a triggered snapshot in which there is no other.
    """

    directory: str | None = None
    size: int = 4 << 20
    max_size: int = 256 << 20
    triggers: str | None = None
    on_death: bool = True
    last: float = 30.0
    pause: float = 10.0

    def __post_init__(self) -> None:
        if not 65536 <= self.size <= 1 << 34:
            raise ValueError(f"size is 64 KiB to 16 GiB, not {self.size!r}")
        for name in ("max_size", "last", "pause"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is 0 or more, not {getattr(self, name)!r}")

    def base(self) -> str:
        return self.directory or os.path.join(default_base(), "dask")


def install(client: distributed.Client, **options) -> None:
    """Record all workers of a cluster from now on, those that come later too.

    Parameters
    ----------
    client : distributed.Client
        Not an asynchronous one: for that, await ``ringbuf.dask.install_async(client, ...)``.
    **options
        As of `Options`.

    Raises
    ------
    ValueError
        An option is none.
    Exception
        What the scheduler raises: there is no ringbuf where it runs, or one of another version.

    A worker without ringbuf, or that cannot make its file, works on as it did; `snapshot` names it. Again: with
    the new options.
    """
    client.sync(install_async, client, **options)


async def install_async(client: distributed.Client, **options) -> None:
    """As `install`, for an asynchronous client."""
    from . import plugins

    given = asdict(Options(**options))
    await client.scheduler.register_scheduler_plugin(
        plugin=plugins.packed(plugins.SchedulerShim(given)), name=_PLUGIN, idempotent=False
    )
    # By the scheduler, who does not raise what a single worker answers.
    await client.scheduler.register_nanny_plugin(
        plugin=plugins.packed(plugins.NannyShim(given)), name=_PLUGIN, idempotent=False
    )
    await client.scheduler.register_worker_plugin(
        plugin=plugins.packed(plugins.WorkerShim(given)), name=_PLUGIN, idempotent=False
    )


def uninstall(client: distributed.Client) -> None:
    """Stop recording; the files go."""
    client.sync(_uninstall, client)


async def _uninstall(client) -> None:
    await client.scheduler.unregister_worker_plugin(name=_PLUGIN)
    await client.scheduler.unregister_nanny_plugin(name=_PLUGIN)
    await client.scheduler.ringbuf_close()
    await client.scheduler.unregister_scheduler_plugin(name=_PLUGIN)


def snapshot(
    client: distributed.Client, url, *, last: float | None = 30.0, timeout: float = 60.0, reason: str = ""
) -> Manifest:
    """A trace set of what all workers and the scheduler have recorded, at one moment. The dead are in it.

    Parameters
    ----------
    client : distributed.Client
    url : str or os.PathLike
        A new directory on the client's machine, to which the traces come by the scheduler; or a URL of
        fsspec's, with ``://``, to which each machine writes its own.
    last : float or None
        Seconds before the moment; None: all that there is.
    timeout : float
        Seconds after which whoever has not answered is left out, and named.
    reason : str
        Noted in the manifest.

    Returns
    -------
    Manifest
        Printed, it says first who is missing, died, or ends before the others. `ringbuf.open_trace` opens the set.

    Raises
    ------
    FileExistsError
        There is a set already.
    ValueError
        `install` was not called; or an argument makes no sense.
    OSError
        The manifest, or a directory on the client's machine, cannot be written.

    What went wrong with one member raises nothing: it stands in `Member.problem`.
    """
    return client.sync(snapshot_async, client, url, last=last, timeout=timeout, reason=reason)


async def snapshot_async(
    client: distributed.Client, url, *, last: float | None = 30.0, timeout: float = 60.0, reason: str = ""
) -> Manifest:
    """As `snapshot`, for an asynchronous client."""
    import asyncio

    from ..places import Local, place_of

    if last is not None and not last >= 0:
        raise ValueError(f"last is a number of seconds or None, not {last!r}")
    if not timeout > 0:
        raise ValueError(f"timeout is a number of seconds above 0, not {timeout!r}")
    place = place_of(url)
    if await asyncio.to_thread(place.has, NAME):
        raise FileExistsError(17, "there is a trace set already", place.path)
    is_here = isinstance(place, Local)
    answer = await _ask_scheduler(client, url="" if is_here else place.path, last=last, timeout=timeout, reason=reason)
    manifest = Manifest.from_json(answer["manifest"], place.path)
    if is_here:
        await _fetch_all(client, place, manifest, answer["tokens"], timeout)
        await asyncio.to_thread(place.write, NAME, manifest.to_json().encode())
    return manifest


async def _ask_scheduler(client, timeout: float, **arguments) -> dict:
    import asyncio

    try:
        # The scheduler keeps its own deadlines: this one is for a scheduler that does not answer at all.
        asked = client.scheduler.ringbuf_snapshot(timeout=timeout, **arguments)
        answer = await asyncio.wait_for(asked, timeout + 30)
    except asyncio.TimeoutError:
        raise TimeoutError(f"the scheduler has not answered within {timeout + 30:g} s") from None
    if answer is None:  # as Dask answers to what it does not know
        raise ValueError("this cluster is not recorded: call ringbuf.dask.install(client) first")
    return answer


async def _fetch_all(client, place, manifest: Manifest, tokens: dict[str, str], timeout: float) -> None:
    """Bring the traces here, some agents at a time. What cannot be brought is noted where it is missed."""
    import asyncio

    limit = asyncio.Semaphore(8)

    async def fetch(agent: str, token: str) -> str:
        async with limit:
            try:
                await asyncio.wait_for(_fetch(client, place, agent.partition(" ")[0], token), timeout)
            except OSError as error:
                if error.filename is not None:  # ours
                    raise
                return f"not to be fetched: {error}"
            except Exception as error:  # noqa: BLE001 - whatever the engine raises
                return f"not to be fetched: {type(error).__name__}: {error}"
        return ""

    items = list(tokens.items())
    problems = await asyncio.gather(*(fetch(*item) for item in items))
    if any(problems):
        text = "; ".join(sorted({one for one in problems if one}))
        for member in manifest.members:
            if not all(place.has(f"{one.directory}/metadata") for one in member.traces):
                member.traces = [one for one in member.traces if place.has(f"{one.directory}/metadata")]
                member.problem = text


async def _fetch(client, place, agent: str, token: str) -> None:
    import asyncio

    async def call(what: str, **arguments):
        return await client.scheduler.ringbuf_relay(agent=agent, what=what, arguments={"token": token, **arguments})

    listing = await call("listing")
    for name in sorted(listing, key=lambda one: one.endswith("/metadata")):  # a trace is one when it is whole
        with await asyncio.to_thread(_Draft, place, name) as draft:
            offset = 0
            while offset < listing[name]:
                piece = await call("fetch", name=name, offset=offset, size=_PIECE)
                if not piece:
                    raise OSError(f"{name} was cut short while it was fetched")
                await asyncio.to_thread(draft.write, piece)
                offset += len(piece)
    await call("drop")


class _Draft:
    """A file of a place that is written in pieces, and appears when it is whole."""

    def __init__(self, place, name: str) -> None:
        self._context = place.draft(name)

    def __enter__(self):
        return self._context.__enter__()

    def __exit__(self, *exc_info):
        return self._context.__exit__(*exc_info)


def trigger(reason: str) -> None:
    """Within a task: snapshot the whole cluster, to where `Options.triggers` says.

    The snapshot is made by the scheduler while the task goes on. Without `triggers`, or within `Options.pause`
    after another one, nothing happens. Outside of tasks: ValueError.
    """
    from distributed import get_worker

    get_worker().log_event(_TOPIC, {"reason": str(reason)})


async def dask_setup(server) -> None:
    """For Dask's ``preload``: of the scheduler, who tells all nannies and workers; or of nannies and workers alone.

    Options are those of the environment: ``RINGBUF_DASK_TRIGGERS``, ``RINGBUF_DASK_DIRECTORY``, ``RINGBUF_DASK_SIZE``.
    """
    from . import plugins

    await plugins.add_to(server, asdict(_from_environment()), _PLUGIN)


def _from_environment() -> Options:
    from ..record.files import size_of

    get = os.environ.get
    size = get("RINGBUF_DASK_SIZE")
    given = {"directory": get("RINGBUF_DASK_DIRECTORY"), "triggers": get("RINGBUF_DASK_TRIGGERS")}
    return Options(**given, **({"size": size_of(size)} if size else {}))
