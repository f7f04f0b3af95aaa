"""A channel, actors (actor.c) that may die in it, and what must hold whoever died."""

import mmap
import os
import signal
import struct
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import judge
import numpy

import ringbuf

ROOT = Path(__file__).parents[2]
PATIENCE = 100  # seconds until something that must happen has happened, on a machine that does much else
FIELDS = {"producer": "u32", "seq": "u64", "fill": "u8[]"}
_ENTRY = struct.Struct("6Q16x")


def build_actor():
    """Compile actor.c if it, or a header, is newer than the program."""
    source, program = Path(__file__).with_name("actor.c"), ROOT / "build" / "kill" / "actor"
    inputs = [source, *ROOT.glob("include/ringbuf/*.h")]
    if not program.exists() or program.stat().st_mtime < max(path.stat().st_mtime for path in inputs):
        program.parent.mkdir(parents=True, exist_ok=True)
        flags = ["-std=gnu11", "-O2", "-g", "-Wall", "-Wextra", "-Werror", f"-I{ROOT / 'include'}", "-pthread"]
        subprocess.run([os.environ.get("CC", "cc"), *flags, str(source), "-o", str(program)], check=True)
    return program


def points():
    """Every name in a RINGBUF_TESTPOINT of the headers."""
    import re

    text = "".join(path.read_text() for path in sorted(ROOT.glob("include/ringbuf/*.h")))
    return sorted(set(re.findall(r"^\s+RINGBUF_TESTPOINT\((\w+)\);", text, re.MULTILINE)))


@dataclass
class Tally:
    """What an actor has done, by its own count; open: attempts that it had not finished when it ended."""

    attempts: int
    committed: int
    discarded: int
    lost: int
    open: int


class Stage:
    """A context manager. Small sub-buffers, so that all that can happen at their ends does, often."""

    def __init__(self, directory, mode="discard", streams="global", header="compact", actors=64):
        self.directory = Path(directory)
        options = {"subbuf_size": 4096, "n_subbufs": 8, "n_streams": None if streams == "global" else os.cpu_count()}
        self.channel = ringbuf.Channel(
            "stage", mode=mode, streams=streams, client=ringbuf.CtfClient(header), n_producers=64, **options
        )
        self.tracer = ringbuf.Tracer.attach(self.channel)
        self.tracer.event("stamp", **FIELDS)
        self.program = build_actor()
        self._fd = os.memfd_create("tally")
        os.ftruncate(self._fd, (actors + 1) * _ENTRY.size)
        self._tally = mmap.mmap(self._fd, 0)
        self._actors = {}
        self._number = 0
        self.traces = []
        self._recorder = None

    # ---- actors ----

    def start(self, role="producer", *dies):
        """Start an actor; `dies`: point, skip, how. Returns its number."""
        self._number += 1
        fds = self.channel.fileno(), self._fd
        paths = [f"/proc/self/fd/{fd}" for fd in fds]
        command = [str(self.program), *paths, str(self._number), role, *map(str, dies)]
        self._actors[self._number] = subprocess.Popen(command, pass_fds=fds)
        return self._number

    def process(self, number):
        return self._actors[number]

    def tally(self, number):
        attempts, committed, discarded, lost, open_, _ = _ENTRY.unpack_from(self._tally, number * _ENTRY.size)
        return Tally(attempts, committed, discarded, lost, open_)

    def died(self, number, within=PATIENCE):
        """Wait for the actor's end; its exit status, or None: it goes on."""
        try:
            return self.process(number).wait(within)
        except subprocess.TimeoutExpired:
            return None

    def stopped(self, number, within=PATIENCE):
        """Wait until the actor is stopped by a signal; False if it goes on."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            state = Path(f"/proc/{self.process(number).pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "T":
                return True
            time.sleep(0.005)
        return False

    def go_on(self, numbers, records=500):
        """Every one of these records that many more: nothing that has happened holds it up."""
        self._advance(numbers, "committed", records)

    def attempt_on(self, numbers, records=500):
        """Every one of these tries that many more, whether they are lost or not."""
        self._advance(numbers, "attempts", records)

    def _advance(self, numbers, count, by):
        wanted = {number: getattr(self.tally(number), count) + by for number in numbers}
        deadline = time.monotonic() + PATIENCE
        while any(getattr(self.tally(number), count) < goal for number, goal in wanted.items()):
            assert time.monotonic() < deadline, {n: (self.tally(n), goal) for n, goal in wanted.items()}
            assert all(self.process(number).poll() is None for number in numbers)
            time.sleep(0.001)

    def end_actors(self):
        self._tally[5 * 8 : 6 * 8] = (1).to_bytes(8, "little")
        for actor in self._actors.values():
            if actor.poll() is None:
                actor.send_signal(signal.SIGCONT)  # it may be stopped
            try:
                actor.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                actor.kill()
                raise AssertionError("an actor does not end") from None

    # ---- readers ----

    def record(self):
        directory = self.directory / f"trace{len(self.traces)}"
        self.traces.append(directory)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._recorder = self.tracer.record(directory, read_timer=0.001, switch_timer=0.005)
                return
            except ringbuf.ReaderBusyError:
                assert time.monotonic() < deadline
                time.sleep(0.001)

    def stop_recording(self):
        self._recorder.stop(PATIENCE)
        assert self._recorder.error is None
        self._recorder = None

    # ---- what must hold ----

    def check(self, given_up=False):
        """Counters against the actors' own, and traces against both. All actors have ended."""
        self.end_actors()
        self.channel.repair()
        if self._recorder:
            self.stop_recording()
        stats = self.channel.stats()
        tallies = {number: self.tally(number) for number in self._actors}
        attempts, open_ = (sum(getattr(t, name) for t in tallies.values()) for name in ("attempts", "open"))
        counted = stats.records_written + stats.records_discarded + stats.records_lost
        assert attempts - open_ <= counted <= attempts, (stats, tallies)
        parts = stats.records_read, stats.records_overrun, stats.records_unread, stats.records_torn
        assert stats.records_written == sum(parts), stats
        committed = sum(t.committed for t in tallies.values())
        if not given_up:
            assert stats.records_torn <= open_, (stats, tallies)
            assert stats.records_written - stats.records_torn >= committed
        return stats, tallies

    def check_traces(self, stats, tallies, every=True):
        """Our reader and babeltrace2 find what was read; `every`: nothing was overwritten, or read elsewhere."""
        seen = Counter()
        for directory in self.traces:
            rows = ringbuf.open_trace(directory).to_numpy("stamp")
            assert judge.counts(directory)["Event"] == len(rows)
            order = numpy.lexsort((rows["seq"], rows["producer"]))
            records = rows[["producer", "seq"]][order]
            assert not (records[1:] == records[:-1]).any(), "a record twice"
            producers, counts = numpy.unique(records["producer"], return_counts=True)
            seen.update(dict(zip(producers.tolist(), counts.tolist(), strict=True)))
        if every:
            assert sum(seen.values()) == stats.records_read
            for number, t in tallies.items():
                assert t.committed <= seen[number] <= t.committed + t.open, (number, t, seen[number])

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        for actor in self._actors.values():
            if actor.poll() is None:
                actor.kill()
                actor.wait()
        if self._recorder:
            self._recorder.stop(0)
        self.channel.close()
        self._tally.close()
        os.close(self._fd)
