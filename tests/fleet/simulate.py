"""A fleet of simulated workers, gathered by the real code: `python tests/fleet/simulate.py --workers 1000`.

Only what the engine would bring is made up: agents that answer `hello` and `collect` after a network's delay, with what
a real agent has answered for a real flight file. Asking, clocks, deadlines, matching and the manifest are those of
fleet/gather.py.
Prints figures as JSON: docs/fleet.md has them.
"""

import argparse
import asyncio
import json
import os
import random
import resource
import sys
import tempfile
import time

from ringbuf.fleet.gather import Expected, Gatherer
from ringbuf.fleet.manifest import Manifest, Member
from ringbuf.fleet.node import Agent, Request, open_flight

WORKERS_PER_HOST = 4


class Fleet:
    """So many workers, each with a nanny; some machines have gone, some do not answer, some have another version."""

    def __init__(self, workers, *, gone=0.005, silent=0.005, other=0.005, seed=1):
        self.random = random.Random(seed)
        self.template, self.hello = _real_answer()
        self.questions = self.bytes = 0
        self.names = [f"tcp://10.{n >> 16}.{n >> 8 & 255}.{n & 255}:40000" for n in range(workers)]
        self.numbers = {name: number for number, name in enumerate(self.names)}
        self.trouble = {}
        for what, part in (("gone", gone), ("silent", silent), ("other", other)):
            for name in self.random.sample(self.names, max(1, int(part * workers))):
                self.trouble.setdefault(name, what)
        self.ahead = [self.random.randint(-(10**10), 10**10) for _ in range(workers // WORKERS_PER_HOST + 1)]
        self.drift = [self.random.uniform(-1e-4, 1e-4) for _ in self.ahead]
        self.start = time.monotonic_ns()

    def expected(self):
        return [
            Expected(Member(name, f"w{number}", "worker", f"host{number // WORKERS_PER_HOST}"), f"nanny-{name}")
            for number, name in enumerate(self.names)
        ]

    def clock(self, host):
        now = time.monotonic_ns()
        return now + self.ahead[host] + int((now - self.start) * self.drift[host])

    async def ask(self, address, what, **arguments):
        self.questions += 1
        name = address.removeprefix("nanny-")
        trouble = self.trouble.get(name)
        number = self.numbers[name]
        if trouble == "gone":
            raise OSError(f"Timed out trying to connect to {address}")
        if trouble == "silent":
            await asyncio.sleep(3600)
        await asyncio.sleep(self.random.uniform(0.0002, 0.002))
        answer = self._answer(name, number, trouble, what, arguments)
        await asyncio.sleep(self.random.uniform(0.0002, 0.002))
        self.bytes += len(json.dumps(answer)) + len(json.dumps(arguments))
        return answer

    def _answer(self, name, number, trouble, what, arguments):
        host = number // WORKERS_PER_HOST
        if what == "hello":
            found = {**self.hello, "host": f"host{host}", "clock": f"clock{host}", "now": self.clock(host)}
            return {**found, "protocol": 99, "version": "9.9.9"} if trouble == "other" else found
        request = Request(**arguments["request"])
        correction = request.correction(self.clock(host) - 30 * 10**9, self.clock(host))
        trace = {**self.template["trace"], "uncertainty_ns": correction.uncertainty_ns, "directory": request.prefix}
        path = os.path.join("/dev/shm", name.replace("://", "-").replace(":", "-") + ".ringbuf")
        return {"token": "0123456789abcdef", "files": [{**self.template, "path": path, "trace": trace}]}


def _real_answer():
    """What a real agent says of a real flight file."""
    with tempfile.TemporaryDirectory() as folder:
        tracer = open_flight(os.path.join(folder, "flights"), "worker", 65536, channel="worker")
        tracer.event("e", n="u32")(1)
        agent = Agent([os.path.join(folder, "flights")])
        answer = agent.collect(Request(time.time_ns(), 30.0, [], 0, "", "x", "CLOCK_MONOTONIC of head").as_dict())
        agent.close()
        tracer.close()
        return answer["files"][0], agent.hello()


async def gathered(fleet, timeout=5.0):
    """Snapshot twice: the first gets to know everybody, the second is what one costs later."""
    gatherer = Gatherer(fleet.ask, "a simulation")
    figures = {}
    for name in ("first", "later"):
        fleet.questions = fleet.bytes = 0
        cpu, began = time.process_time(), time.monotonic()
        manifest, tokens = await gatherer.snapshot(fleet.expected(), last=30.0, timeout=timeout)
        figures[name] = {
            "seconds": time.monotonic() - began,
            "cpu_seconds": time.process_time() - cpu,
            "questions": fleet.questions,
            "bytes": fleet.bytes,
        }
    cpu = time.process_time()
    await gatherer.measure()
    figures["measuring_cpu_seconds"] = time.process_time() - cpu
    figures["clocks"] = len(gatherer.histories)
    return manifest, tokens, figures


def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1000)
    parser.add_argument("--timeout", type=float, default=5.0)
    args = parser.parse_args(arguments)
    manifest, _, figures = asyncio.run(gathered(Fleet(args.workers), args.timeout))
    text = manifest.to_json()
    cpu = time.process_time()
    Manifest.from_json(text)
    figures |= {
        "workers": args.workers,
        "traces": sum(len(one.traces) for one in manifest.members),
        "missing": len(manifest.missing),
        "manifest_bytes": len(text),
        "manifest_cpu_seconds": time.process_time() - cpu,
        "largest_uncertainty_ns": max(one.uncertainty_ns for member in manifest.members for one in member.traces),
        "rss_kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
