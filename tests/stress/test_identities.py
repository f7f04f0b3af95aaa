"""The two identities between the counters, exact under every load, and what is read is what was written.

attempts = written + discarded + lost, by cause; written = read + overrun + unread + torn.
"""

import contextlib
import multiprocessing

import load
import pytest
from load import meanwhile

import ringbuf

PRODUCERS = 4
MODES = ("discard", "overwrite")
STREAMS = ("per-cpu", "global")
WRAP = 1 << 48  # positions have 48 bits


class Case:
    """A channel that is full soon, those who produce into it, and what was read."""

    def __init__(self, mode, streams, seed, folder, *, n_subbufs=4, attempts=8000, clears=False, **options):
        self.tracer = ringbuf.Tracer(
            "load", mode=mode, streams=streams, subbuf_size=4096, n_subbufs=n_subbufs, **{"contexts": (), **options}
        )
        self.channel = self.tracer.channel
        self.seed, self.folder, self.attempts = seed, folder, attempts
        self.tally = load.Tally(PRODUCERS)
        self.seen = load.Seen(lossless=mode == "discard" and not clears)

    def run(self, method, around):
        """Let all produce, two in each process, within the context that `around` gives; then compare everything."""
        processes = multiprocessing.get_context(None if method == "threads" else method)
        start = processes.Barrier(PRODUCERS + 1, timeout=100)
        tasks = [
            (self.tracer, numbers, self.tally, self.seed, self.attempts, start)
            for numbers in ([range(PRODUCERS)] if method == "threads" else [range(0, 2), range(2, PRODUCERS)])
        ]
        make = load.Thread if method == "threads" else processes.Process
        load.let_go([make(target=load.produce, args=task) for task in tasks], start, around)
        stats = load.settle(self.channel, self.tally, self.seen)
        assert stats.attempts >= PRODUCERS * self.attempts
        self.tracer.close()
        return stats

    def new_folder(self):
        self.folder.mkdir(exist_ok=True)
        return self.folder / str(len(list(self.folder.iterdir())))

    # ---- what goes on meanwhile: context managers ----

    @contextlib.contextmanager
    def nobody(self):
        yield

    @contextlib.contextmanager
    def reader(self):
        with self.channel.reader() as reader:
            with meanwhile(lambda: load.read_some(reader, self.seen, timeout=0.001)):
                yield

    @contextlib.contextmanager
    def readers(self):
        """One after another, each goes on where the one before stopped."""

        def step():
            with self.channel.reader() as reader:
                load.read_some(reader, self.seen, timeout=0.001, packets=2)

        with meanwhile(step):
            yield

    @contextlib.contextmanager
    def recorder(self):
        folder = self.new_folder()
        with self.tracer.record(folder, read_timer=0.001):
            yield
        with ringbuf.open_trace(folder) as trace:
            self.seen.add(trace)
            stats = self.channel.stats()
            assert trace.lost.events == stats.records_lost - stats.records_lost_disabled
            assert (len(trace), trace.lost.events_before) == (stats.records_read, 0)

    @contextlib.contextmanager
    def recorders(self):
        def step():
            folder = self.new_folder()
            with self.tracer.record(folder, read_timer=0.001):
                pass
            self.seen.add(ringbuf.open_trace(folder))

        with meanwhile(step):
            yield

    @contextlib.contextmanager
    def snapshots(self):
        """They consume nothing, so what they have is checked by itself."""

        def to_files():
            folder = self.new_folder()
            self.tracer.snapshot(folder)
            load.Seen(lossless=False).add(ringbuf.open_trace(folder))

        def of_reader():
            decode = load.packet_decoder(self.channel)
            with self.channel.reader() as reader:
                for packet in reader.snapshot():
                    load.Seen(lossless=False).add(decode(packet))

        with meanwhile(lambda: (to_files(), of_reader())):
            yield

    @contextlib.contextmanager
    def flushes(self):
        def step():
            for stream in self.channel.streams:
                stream.flush()
            self.channel.flush(empty=True)

        with self.reader(), meanwhile(step):
            yield

    @contextlib.contextmanager
    def switches_off_and_on(self):
        with self.reader(), meanwhile(lambda: (self.channel.disable(), self.channel.enable())):
            yield

    @contextlib.contextmanager
    def clears(self):
        with meanwhile(self.channel.clear):
            yield

    @contextlib.contextmanager
    def everything(self):
        def consume():
            with contextlib.suppress(ringbuf.ReaderBusyError):
                self.channel.clear()
            with self.channel.reader() as reader:
                load.read_some(reader, self.seen, timeout=0.001, packets=4)
                reader.clear()

        with meanwhile(consume), meanwhile(self.channel.flush):
            with meanwhile(lambda: (self.channel.disable(), self.channel.enable())):
                yield


@pytest.fixture
def case(seed, tmp_path):
    return lambda mode, streams, **options: Case(mode, streams, seed, tmp_path / "traces", **options)


@pytest.mark.parametrize("method", ["threads", "fork", "spawn", "forkserver"])
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("mode", MODES)
def test_the_counters_are_exact_whoever_produces(case, mode, streams, method):
    it = case(mode, streams)
    it.run(method, it.reader)


@pytest.mark.parametrize(
    "around", ["nobody", "readers", "recorder", "recorders", "snapshots", "flushes", "switches_off_and_on"]
)
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("mode", MODES)
def test_the_counters_are_exact_whatever_goes_on_meanwhile(case, mode, streams, around):
    it = case(mode, streams)
    it.run("fork", getattr(it, around))


@pytest.mark.parametrize("around", ["clears", "everything"])
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("mode", MODES)
def test_what_is_cleared_is_counted(case, mode, streams, around):
    it = case(mode, streams, clears=True)
    stats = it.run("fork", getattr(it, around))
    if mode == "discard":
        assert stats.records_overrun == stats.records_cleared


@pytest.mark.parametrize("n_subbufs", [2, 8])
@pytest.mark.parametrize("below", [WRAP, 1 << 32], ids=["position", "commit-counter"])
@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize("mode", MODES)
def test_the_counters_are_exact_when_a_count_wraps(case, mode, streams, below, n_subbufs):
    # A slot's commit counter has 32 bits, and counts the bytes of its own sub-buffer only.
    wraps_at = below if below == WRAP else below * n_subbufs
    it = case(mode, streams, n_subbufs=n_subbufs, start_position=wraps_at - 4096 * n_subbufs)
    it.run("fork", it.flushes)


@pytest.mark.parametrize("streams", STREAMS)
def test_with_the_large_header_and_contexts_the_counters_are_exact_too(case, streams):
    contexts = ("vpid", "vtid", "thread_name")
    it = case("discard", streams, client=ringbuf.CtfClient("large"), contexts=contexts)
    it.run("spawn", it.recorder)


@pytest.mark.parametrize("streams", STREAMS)
def test_threads_without_a_slot_are_counted_and_the_rest_goes_on(case, streams):
    it = case("discard", streams, n_producers=PRODUCERS - 1)
    stats = it.run("fork", it.reader)
    assert stats.records_lost_slots > 0
    assert stats.records_written > 0


@pytest.mark.parametrize("streams", STREAMS)
def test_blocking_producers_lose_only_what_cannot_wait(case, streams):
    it = case("discard", streams, blocking_timeout=None, attempts=1500)
    stats = it.run("fork", it.readers)
    assert it.tally.totals()["refused"] == 0  # an event or a write is nested in nothing
    assert stats.records_lost_slots == stats.records_lost_disabled == 0
