"""babeltrace2 finds exactly what was recorded: every value, time, context and loss; and our own reader agrees.

A Script records everything there is and remembers it. What it remembers is held against babeltrace2's reading.
"""

import asyncio
import enum
import itertools
import multiprocessing
import os
import struct
import threading
from types import SimpleNamespace

import agreement
import judge
import load
import numpy
import pytest
import rings

import ringbuf

MODES = ("discard", "overwrite")
HEADERS = ("compact", "large")
STREAMS = ("per-cpu", "global")
AROUND = (2**27, 2**28, 2**32)  # compact times have 27 bits, large ones 32
GAPS = (1, 1000, *(gap + more for gap in AROUND for more in (-1, 0, 1)), 2**40)


class Mood(enum.Enum):
    CALM = 0
    BUSY = 7
    LATE = 200


def integer(bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return lambda rng: rng.choice((low, high, 0, rng.randint(low, high)))


def single(rng):
    """A float that 32 bits hold."""
    return struct.unpack("<f", struct.pack("<f", rng.uniform(-1e6, 1e6)))[0]


# Type of a field -> a function that makes a value of it.
VALUES = {
    **{f"{'ui'[signed]}{bits}": integer(bits, signed) for bits in (8, 16, 32, 64) for signed in (False, True)},
    "f32": single,
    "f64": lambda rng: rng.uniform(-1e300, 1e300),
    "bool": lambda rng: rng.random() < 0.5,
    "str": lambda rng: "".join(rng.choices('abc é名\N{SNAKE}\0\n"\\', k=rng.choice((0, 1, 7, 150)))),
    "bytes": lambda rng: rng.randbytes(rng.choice((0, 1, 3, 200))),
    "u16[]": lambda rng: [rng.getrandbits(16) for _ in range(rng.choice((0, 1, 40)))],
    "enum": lambda rng: rng.choice(list(Mood)),
    "f64[3]": lambda rng: [rng.random() for _ in range(3)],
    "bool[2]": lambda rng: [True, rng.random() < 0.5],
}
KINDS = {**{kind: kind for kind in VALUES}, "enum": Mood}  # as a declaration has them


class Clock:
    now = 10**15

    def __call__(self):
        return self.now


class Script:
    """Records, with times of its choice, and remembers what a reader must find in `accepted` and `lost`."""

    def __init__(self, rng, directory, *, holes=True, **options):
        self.rng, self.directory, self.holes = rng, directory, holes
        self.clock = Clock()
        self.accepted, self.lost = [], []  # of the lost: (CPU, ticks)
        self.user = {"step": 0, "who": "", "mood": Mood.CALM, "tags": []}
        self.tracer = ringbuf.Tracer(
            "script", subbuf_size=4096, n_subbufs=4, wakeup="none", clock=self.clock, **options,
            contexts=("vpid", "vtid", "procname", "thread_name", "task_name", *self.user_contexts()),
        )  # fmt: skip
        self.channel = self.tracer.channel
        self.cpus = sorted(os.sched_getaffinity(0)) if self.channel.per_cpu else [None]
        self.cpu = self.cpus[0]
        self.events = [self.declare(i) for i in range(100)]

    def user_contexts(self):
        kinds = {"step": "u32", "who": "str", "mood": Mood, "tags": "u16[]"}
        return [(name, kind, lambda name=name: self.user[name]) for name, kind in kinds.items()]

    def declare(self, i):
        kinds = [list(KINDS)[(7 * i + k) % len(KINDS)] for k in range(i % 6)]
        own = [("double", "u64", lambda: 2 * self.user["step"])] if i % 10 == 3 else []
        fields = {f"f{k}": KINDS[kind] for k, kind in enumerate(kinds)}
        return self.tracer.event(f"event {i}", _contexts=own, **fields), kinds, bool(own)

    # ---- what is recorded ----

    def tick(self, gap):
        self.clock.now += gap
        self.user["step"] += 1

    def note(self, accepted, name, event_id, fields, user, own):
        if not accepted:
            self.lost.append((self.cpu, self.clock.now))
            return
        procname = open("/proc/self/comm").read().rstrip("\n")
        head = {"vpid": os.getpid(), "vtid": threading.get_native_id(), "procname": procname}
        contexts = {**head, **user, **own}
        self.accepted.append(SimpleNamespace(name=name, id=event_id, ticks=self.clock.now, cpu=self.cpu,
                                             fields=fields, contexts=contexts))  # fmt: skip

    def event(self, i=None, gap=None):
        """Any event, or this one; True: recorded."""
        self.tick(gap or self.rng.choice(GAPS))
        self.user.update(who=VALUES["str"](self.rng), mood=self.rng.choice(list(Mood)), tags=VALUES["u16[]"](self.rng))
        event, kinds, has_own = self.events[self.rng.randrange(100) if i is None else i]
        values = [VALUES[kind](self.rng) for kind in kinds]
        recorded = event(*values)
        own = {"double": 2 * self.user["step"]} if has_own else {}
        user = {"thread_name": threading.current_thread().name, "task_name": "the script", **self.user}
        fields = {f"f{k}": value for k, value in enumerate(values)}
        self.note(recorded, event.name, event.id, fields, user, own)
        return recorded

    def raw(self):
        """Bytes; contexts that Python provides are not asked for."""
        self.tick(self.rng.choice(GAPS))
        data, align = self.rng.randbytes(self.rng.choice((0, 1, 200))), self.rng.choice((1, 4, 64))
        recorded = self.channel.write(data, align)
        fields = "payload:bytes" if align == 1 else f"payload:bytes@{align}"
        ids = {schema[1:]: schema[0] for schema in self.channel.schemas()}
        user = {"thread_name": "", "task_name": "", "step": 0, "who": "", "mood": Mood.CALM, "tags": []}
        self.note(recorded, "payload", ids["payload", "", fields], {"payload": data}, user, {})

    def hole(self):
        """Records that are given up, with others behind them."""
        slots = []
        for _ in range(self.rng.randint(1, 3)):
            self.tick(self.rng.choice(GAPS))
            slots.append(self.channel.try_reserve(self.rng.choice((0, 1, 2, 64, 1000))))
            if slots[-1] is None:
                self.lost.append((self.cpu, self.clock.now))
            if self.rng.random() < 0.5:
                self.event()
        self.rng.shuffle(slots)
        for slot in filter(None, slots):
            slot.discard()

    def too_big(self):
        self.tick(1)
        assert not self.channel.write(bytes(self.channel.subbuf_size))
        self.lost.append((self.cpu, self.clock.now))

    def too_deep(self):
        """The fifth record that is open at a time; the others become holes, or nothing."""
        self.tick(1)
        slots = [self.channel.try_reserve(8) for _ in range(5)]
        self.lost += [(self.cpu, self.clock.now) for slot in slots if slot is None]
        for slot in filter(None, slots):
            slot.discard()

    def something(self):
        ways = {self.event: 20, self.raw: 2, self.too_big: 0.1}
        if self.holes:
            ways |= {self.hole: 3, self.too_deep: 0.2}
        self.rng.choices(list(ways), list(ways.values()))[0]()

    # ---- a whole script ----

    def run(self, act):
        """Record what `act` does, as a task on one CPU at a time, and stop."""

        async def task():
            asyncio.current_task().set_name("the script")
            act()

        affinity = os.sched_getaffinity(0)
        try:
            with self.tracer.record(self.directory) as self.recorder:
                self.move()
                asyncio.run(task())
                self.tick(1)
        finally:
            os.sched_setaffinity(0, affinity)

    def move(self, cpu=None):
        self.cpu = self.rng.choice(self.cpus) if cpu is None else cpu
        if self.cpu is not None:
            os.sched_setaffinity(0, {self.cpu})

    def drain(self):
        self.tick(1)
        self.channel.flush()
        self.recorder.poke()
        rings.eventually(lambda: not self.recorder.stats()["unread_bytes"])

    # ---- what it must have come to ----

    def check(self):
        judged = judge.read(self.directory)
        assert judged.warnings == ""
        self.check_values(judged)
        self.check_losses(judged)
        agreement.assert_agrees(self.directory, judged)
        stats = self.tracer.stats()
        assert (stats.records_written, stats.records_lost) == (len(self.accepted), len(self.lost))
        assert stats.records_read == len(judged.events)
        return judged, stats

    def check_values(self, judged):
        """What is there is right, and what is missing was overwritten, in the packets that are missing."""
        accepted, missing = iter(self.accepted), []
        for event in judged.events:
            for wanted in accepted:
                if (event["ticks"], event["name"]) == (wanted.ticks, wanted.name):
                    break
                missing.append((wanted.cpu, wanted.ticks))
            else:
                raise AssertionError(f"{event} was not recorded, or not then")
            assert (event["id"], event["cpu"]) == (wanted.id, wanted.cpu), (event, wanted)
            agreement.assert_same(plain(wanted.fields), agreement.shown(event["fields"], event["labels"]))
            agreement.assert_same(numbers(wanted.contexts), context_values(event))
        missing += [(wanted.cpu, wanted.ticks) for wanted in accepted]
        assert len(missing) == self.tracer.stats().records_overrun
        for loss in judged.discarded_packets:
            missing = [place for place in missing if not is_within(loss, place)]
        assert not missing

    def check_losses(self, judged):
        """Each loss is reported once, for the time and in the stream where it was."""
        lost = sorted((cpu or 0, ticks) for cpu, ticks in self.lost)
        for loss in sorted(judged.discarded_events, key=lambda loss: (loss["stream"], loss["begin_ns"])):
            these, lost = lost[: loss["count"]], lost[loss["count"] :]
            assert len(these) == loss["count"] and all(is_within(loss, place) for place in these), loss
        assert not lost


def is_within(loss, place):
    cpu, ticks = place
    return loss["stream"][1] == (cpu or 0) and loss["begin_ns"] <= ticks <= loss["end_ns"]


def plain(fields):
    """Enumerators as their labels."""
    return {name: value.name if isinstance(value, Mood) else value for name, value in fields.items()}


def numbers(contexts):
    """Enumerators as their numbers: the judge has no labels for contexts."""
    return {name: value.value if isinstance(value, Mood) else value for name, value in contexts.items()}


def context_values(event):
    contexts = {**event["contexts"]["stream"], **event["contexts"]["event"]}
    return agreement.shown(contexts, {})


@pytest.mark.parametrize("holes", [True, False], ids=["holes", "no-holes"])
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("header", HEADERS)
def test_a_hundred_event_types_with_contexts_holes_gaps_and_losses(rng, tmp_path, header, mode, streams, holes):
    script = Script(rng, tmp_path / "trace", mode=mode, streams=streams, holes=holes, client=ringbuf.CtfClient(header))

    def act():
        for i in range(100):  # each once, with room for all, and some in each stream
            script.event(i)
            if i % 10 == 9:
                script.drain()
                script.move(script.cpus[i // 10 % len(script.cpus)])
        for _ in range(12):
            script.move()
            for _ in range(rng.choice((10, 150))):  # the larger number fills the ring
                script.something()
            if rng.random() < 0.8:
                script.drain()
        script.too_big()

    script.run(act)
    judged, stats = script.check()
    assert {event["name"] for event in judged.events} >= {f"event {i}" for i in range(100)}
    assert stats.records_lost_big > 0
    assert (stats.records_discarded > 0) == holes
    if mode == "discard":
        assert stats.records_lost_full > 0
        assert not judged.discarded_packets
    else:
        assert stats.records_overrun > 0
        assert judged.discarded_packets


@pytest.mark.parametrize("between", ["nothing", "hole", "flush"])
@pytest.mark.parametrize("header", HEADERS)
def test_every_gap_after_every_other(rng, tmp_path, header, between):
    script = Script(rng, tmp_path / "trace", mode="discard", streams="global", client=ringbuf.CtfClient(header))

    def act():
        for i, (gap, after) in enumerate(itertools.product(GAPS, repeat=2)):
            script.event(0, gap)  # ids of both kinds of the compact header
            if between == "hole":
                slot = script.channel.reserve(i)
            if between == "flush":
                script.channel.flush()
            script.event(99 if i % 2 else 6, after)
            if between == "hole":
                slot.discard()
            if i % 2:
                script.drain()

    script.run(act)
    judged, _ = script.check()
    assert len(judged.events) == 2 * len(GAPS) ** 2


# ---- eight producers, over processes and threads ----


def produce_everywhere(target, tracer, directory, *args):
    """Run target(tracer, two numbers, *args, start) in threads here and in a process of each kind, and record that."""
    contexts = [multiprocessing.get_context(method) for method in ("fork", "forkserver", "spawn")]
    start = contexts[-1].Barrier(9, timeout=100)
    makers = [*(context.Process for context in contexts), load.Thread]
    tasks = [(tracer, range(2 * i, 2 * i + 2), *args, start) for i in range(len(makers))]
    workers = [make(target=target, args=task) for make, task in zip(makers, tasks, strict=True)]
    load.let_go(workers, start, around=lambda: tracer.record(directory))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("header", HEADERS)
def test_eight_producers_in_processes_of_all_kinds(seed, tmp_path, header, mode):
    streams = "global" if header == "large" else "per-cpu"
    tracer = ringbuf.Tracer("eight", mode=mode, streams=streams, subbuf_size=8192, client=ringbuf.CtfClient(header))
    tally, seen = load.Tally(8), load.Seen(lossless=mode == "discard")
    produce_everywhere(load.produce, tracer, tmp_path / "trace", tally, seed, 2000)
    stats = load.check_counts(tracer.channel, tally)
    judged = judge.read(tmp_path / "trace")
    records = [as_record(event) for event in judged.events]
    seen.add(records)
    seen.check_complete(tally.written())
    assert (seen.count, stats.records_unread) == (stats.records_read, 0)
    assert sum(loss["count"] for loss in judged.discarded_events) == stats.records_lost
    processes = {(load.identity(record)[0] // 2, record.vpid) for record in records}
    assert len(processes) == len(dict(processes)) == len({pid for _, pid in processes})
    agreement.assert_agrees(tmp_path / "trace", judged)


def as_record(event):
    """An event of babeltrace2 as one of ours, for load.Seen."""
    fields = agreement.shown(event["fields"], event["labels"])
    fields = {name: bytes(value) if isinstance(value, list) else value for name, value in fields.items()}
    vpid = event["contexts"]["stream"]["vpid"]
    return SimpleNamespace(name=event["name"], cpu=event["cpu"], fields=fields, vpid=vpid)


@pytest.mark.slow
@pytest.mark.parametrize("header", HEADERS)
def test_a_million_records_of_eight_producers_arrive(tmp_path, header):
    tracer = ringbuf.Tracer("million", mode="discard", blocking_timeout=None, client=ringbuf.CtfClient(header))
    produce_everywhere(count_up, tracer, tmp_path / "trace", 125_000)
    assert tracer.stats().attempts == 1_000_000
    counts = judge.counts(tmp_path / "trace")
    assert (counts["Event"], counts["Discarded event"], counts["Discarded packet"]) == (1_000_000, 0, 0)
    rows = ringbuf.open_trace(tmp_path / "trace").to_numpy("tick")
    for number in range(8):
        mine = rows[rows["producer"] == number]
        assert numpy.array_equal(mine["seq"], numpy.arange(125_000))
        assert len(set(mine["vtid"].tolist())) == 1


def count_up(tracer, numbers, count, start):
    def run(number):
        tick = tracer.event("tick", producer="u32", seq="u64")
        start.wait()
        start.wait()
        assert all(tick(number, seq) for seq in range(count))

    load.in_threads(run, numbers)
