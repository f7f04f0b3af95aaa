"""Everything that ringbuf does, at the same time and for a given time; `make soak TIME=600` runs it.

    python tests/stress/soak.py --seconds 600       # SEED=1234 before it makes the same choices again

It goes in rounds. In a round, some channels are recorded into by threads and processes of every kind that come and
go, while readers, recorders, snapshots and clears take turns and others flush, attach, and switch off and on. At its
end all have stopped: every counter must be what the producers counted, every record must be there that was not
counted as lost, and the process must need no more memory, descriptors, threads and mappings than before.
"""

import argparse
import contextlib
import faulthandler
import gc
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass
from multiprocessing import connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does

import load
from load import meanwhile
from rings import in_thread

import ringbuf

PRODUCERS = 3  # at a time, in each channel
ROUND = 2.5  # seconds
HANGS_AFTER = 180.0  # seconds that no round takes

# What lasts for all rounds. `clears`: records may be thrown away, so not all of them can be found again.
LASTING = {
    "discarding": {"mode": "discard", "streams": "per-cpu"},
    "overwriting": {"mode": "overwrite", "streams": "global", "contexts": ("vpid", "thread_name")},
    "blocking": {"mode": "discard", "streams": "global", "blocking_timeout": 20.0, "wakeup": "writer"},
    "in a file": {"mode": "discard", "streams": "per-cpu", "clears": True, "client": ringbuf.CtfClient("large")},
}


class Scene:
    """A channel, those who record into it, and what was read of it."""

    def __init__(self, name, seed, folder, *, clears=False, **options):
        self.name, self.folder, self.clears = name, folder, clears
        self.rng = random.Random(f"{seed} {name}")
        folder.mkdir()
        path = folder / "ring" if name == "in a file" else None
        self.tracer = ringbuf.Tracer(f"soak {name}", subbuf_size=8192, n_subbufs=4, path=path, **options)
        self.channel = self.tracer.channel
        self.tally = load.Tally(PRODUCERS)
        self.seen = load.Seen(lossless=self.channel.mode == "discard" and not clears)
        self.deeds = Counter()
        self.folders = 0

    @contextlib.contextmanager
    def playing(self):
        """Everything goes on while the block runs; the producers stop before what makes room for them."""
        with contextlib.ExitStack() as stack:
            for role in (self.consume, self.disturb):
                stack.enter_context(meanwhile(self.repeated(role)))
            for number in range(PRODUCERS):
                stack.enter_context(meanwhile(self.repeated(self.live, number)))
            yield

    def repeated(self, role, *args):
        """The role as a step, with choices of its own, whose failures say where they were."""
        rng = random.Random(self.rng.random())

        def step():
            try:
                role(rng, *args)
            except Exception as error:
                raise RuntimeError(f"channel {self.name!r}, {role.__name__}{args}: {error}") from error

        return step

    def do(self, rng, ways):
        """One of the ways, which have weights."""
        way = rng.choices(list(ways), list(ways.values()))[0]
        way(rng)
        self.deeds[way.__name__] += 1

    # ---- producers ----

    def live(self, rng, number):
        """The life of one producer, who goes on counting where the one before stopped."""
        kind = rng.choices(("thread", "attached", "fork", "forkserver", "spawn"), (8, 3, 8, 1, 0.5))[0]
        args = (self.tracer, number, self.tally, rng.random(), rng.choice((1, 100, 1000)))
        if kind in ("thread", "attached"):
            in_thread(live if kind == "thread" else live_attached, *args)
        else:
            in_process(kind, live, *args)
        self.deeds[kind] += 1

    # ---- consumers: one at a time ----

    def consume(self, rng):
        ways = {self.read: 6, self.record: 2, self.record_elsewhere: 1, self.snapshot: 1, self.look: 1, self.idle: 1}
        if self.clears:
            ways[self.clear] = 2
        self.do(rng, ways)

    def read(self, rng):
        with self.channel.reader() as reader:
            for _ in range(rng.choice((1, 5, 30))):
                load.read_some(reader, self.seen, timeout=0.01, packets=2)

    def record(self, rng):
        folder = self.new_folder()
        with self.tracer.record(folder, read_timer=0.001, switch_timer=rng.choice((None, 0.005))):
            time.sleep(rng.choice((0, 0.05, 0.3)))
        self.check_trace(folder, self.seen)

    def record_elsewhere(self, rng):
        """The recorder of another process: readers need not be where the channel was made."""
        folder = self.new_folder()
        in_process(rng.choice(("fork", "forkserver")), record_for, self.tracer, folder, rng.choice((0, 0.1)))
        self.check_trace(folder, self.seen)

    def snapshot(self, rng):
        folder = self.new_folder()
        self.tracer.snapshot(folder)
        self.check_trace(folder, load.Seen(lossless=False))

    def look(self, rng):
        """A snapshot in memory."""
        decode = load.packet_decoder(self.channel)
        with self.channel.reader() as reader:
            for packet in reader.snapshot():
                load.Seen(lossless=False).add(decode(packet))

    def idle(self, rng):
        time.sleep(rng.choice((0.01, 0.1)))

    def clear(self, rng):
        self.channel.clear()

    def new_folder(self):
        self.folders += 1
        return self.folder / f"trace {self.folders}"

    def check_trace(self, folder, seen):
        with ringbuf.open_trace(folder) as trace:
            seen.add(trace)
            if self.folders % 10 == 0 and shutil.which("babeltrace2"):
                import judge  # not at the top: each process that is spawned imports this file

                assert judge.counts(folder)["Event"] == len(trace), folder
        shutil.rmtree(folder)

    # ---- others ----

    def disturb(self, rng):
        self.do(rng, {self.flush: 4, self.flush_empty: 1, self.switch_off_and_on: 1, self.attach: 2, self.count: 2})
        time.sleep(rng.choice((0, 0.001, 0.02)))

    def flush(self, rng):
        rng.choice(self.channel.streams).flush()

    def flush_empty(self, rng):
        self.channel.flush(empty=True)

    def switch_off_and_on(self, rng):
        self.channel.disable()
        time.sleep(rng.choice((0, 0.001)))
        self.channel.enable()

    def attach(self, rng):
        with ringbuf.attach(self.channel.path or self.channel.fileno()) as channel:
            assert channel.uuid == self.channel.uuid
            channel.flush()

    def count(self, rng):
        assert self.channel.stats().records_torn == 0

    # ---- the end ----

    def settle(self):
        """Nobody does anything any more: compare everything."""
        try:
            return load.settle(self.channel, self.tally, self.seen)
        except AssertionError as error:
            raise RuntimeError(f"channel {self.name!r}: {error}") from error

    def close(self):
        self.tracer.close()
        shutil.rmtree(self.folder)


def live(tracer, number, tally, seed, attempts):
    load.Producer(tracer, number, tally, seed).run(attempts)


def live_attached(tracer, number, tally, seed, attempts):
    """The same through a mapping of its own."""
    with ringbuf.Tracer.attach(tracer.channel.path or tracer.channel.fileno()) as attached:
        live(attached, number, tally, seed, attempts)


def record_for(tracer, folder, seconds):
    with tracer.record(folder, read_timer=0.001):
        time.sleep(seconds)


# Each start looks which children have ended, and of two threads that look at one, one gets its exit code wrong.
children = threading.Lock()


def in_process(method, function, *args):
    worker = multiprocessing.get_context(method).Process(target=function, args=args)
    with children:
        worker.start()
    connection.wait([worker.sentinel])
    with children:
        worker.join()
    assert worker.exitcode == 0, f"{function.__name__} by {method} ended with {worker.exitcode}"


# ---- what the process needs ----


@dataclass
class Usage:
    rss_kib: int
    descriptors: int
    threads: int
    mappings: int
    regions: int  # mappings of channels


#: How much more of each the later rounds may need: threads have stacks that the C library keeps for a while.
SLACK = Usage(rss_kib=6000, descriptors=0, threads=0, mappings=12, regions=0)


def usage(folder):
    gc.collect()
    status = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    mappings = Path("/proc/self/maps").read_text().splitlines()
    return Usage(
        rss_kib=int(status["VmRSS"].split()[0]),
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=int(status["Threads"]),
        mappings=len(mappings),
        regions=sum("/memfd:ringbuf:" in line or str(folder) in line for line in mappings),
    )


def check_flat(samples):
    """The last quarter of the rounds needs no more than the second did. The first warms up."""
    quarter = len(samples) // 4
    if not quarter:
        return
    early, late = samples[quarter : 2 * quarter], samples[-quarter:]
    for name in vars(SLACK):
        before, after = max(getattr(one, name) for one in early), min(getattr(one, name) for one in late)
        values = [getattr(one, name) for one in samples]
        assert after <= before + getattr(SLACK, name), f"{name} grew: {before} before, {after} after; {values}"


# ---- the soak ----


class Soak:
    def __init__(self, seed, folder):
        self.rng = random.Random(seed)
        self.seed, self.folder = seed, folder
        self.lasting = [Scene(name, seed, folder / name, **options) for name, options in LASTING.items()]
        self.past = Counter()  # numbers of the channels that were made for one round
        self.samples = []
        self.begin = time.monotonic()

    def round(self):
        """Two of the channels that last, and one made for this round."""
        fresh = Scene(f"of round {len(self.samples) + 1}", self.seed, self.folder / "fresh", **self.any_options())
        scenes = [*self.rng.sample(self.lasting, 2), fresh]
        with contextlib.ExitStack() as stack:
            for scene in scenes:
                stack.enter_context(scene.playing())
            time.sleep(ROUND)
        for scene in scenes:
            scene.settle()
        self.past += self.numbers(fresh)
        fresh.close()
        del fresh, scenes, scene
        self.samples.append(usage(self.folder))

    def any_options(self):
        options = {
            "mode": self.rng.choice(("discard", "overwrite")),
            "streams": self.rng.choice(("per-cpu", "global")),
            "clears": self.rng.random() < 0.3,
            "start_position": self.rng.choice((0, (1 << 48) - 4 * 8192, (1 << 34) - 4 * 8192)),
        }
        if self.rng.random() < 0.3 and options["mode"] == "discard":
            options["blocking_timeout"] = 20.0
        return options

    def numbers(self, scene):
        stats = scene.channel.stats()
        numbers = {
            "attempts": stats.attempts,
            "records read": stats.records_read,
            "records lost": stats.records_lost,
            "records overrun": stats.records_overrun,
            "records discarded": stats.records_discarded,
        }
        return Counter(numbers) + scene.deeds

    def total(self):
        return sum(map(self.numbers, self.lasting), self.past)

    def progress(self):
        total, now = self.total(), self.samples[-1]
        seconds = time.monotonic() - self.begin
        text = f"{seconds:4.0f} s, round {len(self.samples)}: {total['attempts']:,} attempts, "
        text += f"{total['records read']:,} read, {total['records lost']:,} lost; {now.rss_kib / 1024:.1f} MiB, "
        return text + f"{now.descriptors} descriptors, {now.threads} threads, {now.mappings} mappings"

    def close(self):
        for scene in self.lasting:
            scene.close()
        self.lasting.clear()
        left = usage(self.folder)
        assert left.regions == 0, f"{left.regions} mappings of closed channels are left"


def run(seconds, seed, folder):
    soak = Soak(seed, folder)
    period, end = (0, "\r") if sys.stdout.isatty() else (20, "\n")
    shown = 0
    while time.monotonic() - soak.begin < seconds:
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True)
        soak.round()
        if time.monotonic() - shown >= period:
            shown = time.monotonic()
            print(f"{soak.progress():<118}", end=end, flush=True)
    print(f"{soak.progress():<118}")
    total = soak.total()
    check_flat(soak.samples)
    soak.close()
    faulthandler.cancel_dump_traceback_later()
    print(", ".join(f"{name}: {count:,}" for name, count in sorted(total.items())))
    print("every counter is exact, every value right, and nothing grew")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    options = parser.parse_args()
    seed = int(os.environ.get("SEED") or random.SystemRandom().getrandbits(32))
    print(f"seed: {seed} (the same choices again: SEED={seed})", flush=True)
    with tempfile.TemporaryDirectory(prefix="ringbuf-soak-") as folder:
        run(options.seconds, seed, Path(folder))


if __name__ == "__main__":
    main()
