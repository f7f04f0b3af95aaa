"""Agents in Dask's processes: the methods of `fleet.node.Agent` as handlers that the scheduler calls."""

from __future__ import annotations

import asyncio
import os

from ..fleet.node import Agent, safe_name, tidy

__all__ = ["PREFIX", "directory_of", "serve", "serve_nanny"]

PREFIX = "ringbuf_"


def directory_of(base: str, address: str) -> str:
    """Of the flight files that a nanny, or a worker without one, is the agent for."""
    return os.path.join(base, safe_name(address))


def serve(server, agent: Agent) -> None:
    """Let a server answer for an agent. What takes long is done in a thread, so that its event loop goes on."""

    def ringbuf_hello():
        return agent.hello()

    async def ringbuf_collect(request=None, directories=None):
        return await asyncio.to_thread(agent.collect, request, directories)

    async def ringbuf_listing(token=None):
        return await asyncio.to_thread(agent.listing, token)

    async def ringbuf_fetch(token=None, name=None, offset=0, size=0):
        return await asyncio.to_thread(agent.fetch, token, name, offset, size)

    async def ringbuf_drop(token=None):
        await asyncio.to_thread(agent.drop, token)

    for handler in (ringbuf_hello, ringbuf_collect, ringbuf_listing, ringbuf_fetch, ringbuf_drop):
        server.handlers[handler.__name__] = handler


def serve_nanny(nanny, options: dict) -> Agent:
    """Make a nanny the agent of its workers: the one it has, and those that it starts later."""
    from . import Options

    base = Options(**options).base()
    tidy(base)
    directory = directory_of(base, nanny.address)
    agent = Agent([directory])
    serve(nanny, agent)
    nanny.env.setdefault("RINGBUF_DIR", directory)  # for what the tasks' own code records
    return agent
