"""ringbuf.recover: what the file of a channel still has when its processes are dead."""

import contextlib
import hashlib
import mmap
import os
import signal
import threading

import judge
import pytest
import rings

import ringbuf
from ringbuf._core import is_region_used

MODES = ["overwrite", "discard"]


def after_death(path, work, **options):
    """A child makes a tracer in the file, runs work(tracer), and is killed."""

    def child():
        tracer = rings.tracer(path=path, **{"subbuf_size": 4096, "n_subbufs": 8, **options})
        work(tracer)
        os.kill(os.getpid(), signal.SIGKILL)

    assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
    return path


def ticks(count, text=""):
    def work(tracer):
        tick = tracer.event("tick", n="u32", text="str")
        for n in range(count):
            tick(n, text)

    return work


def numbers(directory, name="tick"):
    return [event["fields"]["n"] for event in judge.events(directory) if event["name"] == name]


# ---- killed under load ----


class Load:
    """Processes and threads that record as fast as they can, and say in shared memory how far they are."""

    def __init__(self, path, n_processes, n_threads, **options):
        self.path, self.options = path, options
        self.n_processes, self.n_threads = n_processes, n_threads
        self.memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.done = memoryview(self.memory).cast("Q")  # of each thread: records that were committed
        self.leader = rings.fork(self._lead)

    def _lead(self):
        os.setpgid(0, 0)
        tracer = ringbuf.Tracer("load", path=self.path, subbuf_size=4096, contexts=(), **self.options)
        for process in range(self.n_processes - 1):
            if not os.fork():
                self._run(tracer, process + 1)
        self._run(tracer, 0)

    def _run(self, tracer, process):
        first = process * self.n_threads
        for thread in range(1, self.n_threads):
            threading.Thread(target=self._record, args=(tracer, first + thread)).start()
        self._record(tracer, first)

    def _record(self, tracer, who):
        tick = tracer.event("tick", who="u32", n="u64")
        n = 0
        while True:
            if tick(who, n + 1):
                n += 1
                self.done[who] = n

    def kill(self, at_least):
        """Kill all of them at one time, once each has recorded so much; how far they were."""
        everybody = range(self.n_processes * self.n_threads)
        rings.eventually(lambda: all(self.done[who] >= at_least for who in everybody), seconds=60)
        os.killpg(self.leader, signal.SIGKILL)
        assert rings.exit_code(self.leader) == -signal.SIGKILL
        with open(self.path, "rb") as file:
            rings.eventually(lambda: not is_region_used(file.fileno()))
        return [self.done[who] for who in everybody]


@pytest.fixture
def start_load(tmp_path):
    """Makes a Load whose processes end with the test."""
    loads = []

    def start(*args, **options):
        loads.append(Load(tmp_path / "ring", *args, **options))
        return loads[0]

    yield start
    for load in loads:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(load.leader, signal.SIGKILL)


def by_producer(events):
    found = {}
    for event in events:
        found.setdefault(event["fields"]["who"], []).append(event)
    return found


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("streams", ["per-cpu", "global"])
def test_all_that_was_committed_before_a_kill_is_in_the_trace(tmp_path, start_load, streams, header):
    client = ringbuf.CtfClient(header=header)
    load = start_load(3, 2, mode="overwrite", n_subbufs=16, streams=streams, client=client)
    done = load.kill(at_least=3000)
    found = ringbuf.recover(load.path, tmp_path / "trace")
    trace = judge.read(tmp_path / "trace")
    assert len(trace.events) == found.records and not found.damaged
    producers = by_producer(trace.events)
    # Gaps are older than the oldest record of a stream, which has overwritten what came before: a thread that moved
    # to a busy CPU may have lost what it recorded there, and keep older records in the stream of a quiet one.
    complete_from = max(packets[0]["begin_ns"] for packets in streams_of(trace.packets).values())
    newest = {who: events[-1] for who, events in producers.items() if events[-1]["ns"] > complete_from}
    missing = sum(max(0, done[who] - event["fields"]["n"]) for who, event in newest.items())
    assert newest and missing <= found.stats.records_torn
    for events in producers.values():
        recent = [event["fields"]["n"] for event in events if event["ns"] > complete_from]
        assert recent == list(range(recent[0], recent[0] + len(recent))) if recent else True
    rings.assert_exact(found.stats)
    # The last event is what some producer was at when it was killed; nothing is later than that.
    assert trace.events[-1]["fields"]["n"] in {n + more for n in done for more in (0, 1)} or found.stats.records_torn
    assert max(packet["end_ns"] for packet in trace.packets) <= found.end + 1
    assert {producer.pid for producer in found.producers} >= {load.leader}
    assert len(found.producers) == 6
    rings.assert_exact(found.stats)


def streams_of(packets):
    found = {}
    for packet in packets:
        found.setdefault(packet["cpu"], []).append(packet)
    return found


@pytest.mark.parametrize("streams", ["per-cpu", "global"])
def test_what_a_killed_reader_has_not_read_is_in_the_trace(tmp_path, start_load, streams):
    load = start_load(2, 2, mode="discard", n_subbufs=8, streams=streams)
    rings.eventually(lambda: any(load.done))

    def read():
        os.setpgid(0, load.leader)
        with ringbuf.attach(load.path) as channel, channel.reader() as reader:
            while True:
                reader.next()

    reader = rings.fork(read)
    done = load.kill(at_least=3000)
    assert rings.exit_code(reader) == -signal.SIGKILL
    found = ringbuf.recover(load.path, tmp_path / "trace")
    events = judge.events(tmp_path / "trace")
    stats = found.stats
    assert len(events) == found.records and not found.damaged
    assert stats.packets_read > 0
    # Each may have been killed over one more than it had said.
    assert sum(done) <= stats.records_written <= sum(done) + len(done)
    assert stats.records_read + len(events) + stats.records_torn == stats.records_written
    for who, mine in by_producer(events).items():
        assert max(event["fields"]["n"] for event in mine) <= done[who] + 1
    rings.assert_exact(stats)


# ---- what is in it ----


@pytest.mark.parametrize("mode", MODES)
def test_packets_that_were_complete_and_the_one_that_was_not(tmp_path, mode):
    after_death(tmp_path / "ring", ticks(300, "some text"), mode=mode)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert numbers(tmp_path / "trace") == list(range(300))
    assert (found.records, found.damaged, found.missing, found.stats.records_torn) == (300, 0, 0, 0)
    assert found.streams[0].packets == found.packets == 2


def test_the_trace_ends_when_the_producer_died(tmp_path):
    after_death(tmp_path / "ring", ticks(5))
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    trace = judge.read(tmp_path / "trace")
    assert trace.packets[-1]["end_ns"] == pytest.approx(trace.events[-1]["ns"], abs=1)
    assert found.end == pytest.approx(trace.events[-1]["ns"], abs=2)


def test_who_was_there(tmp_path):
    def work(tracer):
        tick = tracer.event("tick", n="u32")
        rings.in_thread(tick, 0)  # a thread that ends by itself
        threading.Thread(target=lambda: (tick(1), threading.Event().wait()), name="waits").start()
        tick(2)
        rings.eventually(lambda: tracer.stats().records_written == 3)
        tracer.channel.reserve(8)
        kept.append(tracer.channel.reserve(8))

    kept = []
    after_death(tmp_path / "ring", work)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    main, other = sorted(found.producers, key=lambda words: words.tid)
    assert main.pid == main.tid == other.pid == found.pid
    assert (main.open_records, other.open_records) == (1, 0)
    assert main.program == other.program == found.program == main.thread
    assert main.last_record == found.end
    assert other.last_record < main.last_record


def test_a_torn_record_is_skipped_and_counted(tmp_path):
    def work(tracer):
        tick = tracer.event("tick", n="u32")
        tick(0)
        slot = tracer.channel.reserve(100)
        slot.payload[:4] = b"torn"
        tick(1)
        kept.append(slot)

    kept = []
    after_death(tmp_path / "ring", work)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert numbers(tmp_path / "trace") == [0, 1]
    assert found.stats.records_torn == 1
    rings.assert_exact(found.stats, attempts=3)


@pytest.mark.parametrize("n_spares", [0, 1, 8])
def test_a_sub_buffer_that_was_parked_when_all_died_was_lapped(tmp_path, n_spares):
    """All that was in it counts as overrun, but for the record that its producer died over; the ring is whole."""

    def work(tracer):
        tick = tracer.event("tick", n="u32")
        tick(0)
        kept.append(tracer.channel.reserve(100))
        for n in range(1, 5000):
            tick(n)

    kept = []
    after_death(tmp_path / "ring", work, mode="overwrite", n_subbufs=4, n_spares=n_spares)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    recovered, stats = numbers(tmp_path / "trace"), found.stats
    assert (found.damaged, stats.records_torn, stats.parked_now) == (0, 1, 0)
    rings.assert_exact(stats, attempts=5001)
    assert found.records == len(recovered) == stats.records_unread
    if n_spares:
        assert stats.records_lost == 0
        assert recovered == list(range(5000 - len(recovered), 5000))
    else:
        assert stats.records_lost_wrap > 0
        assert recovered == list(range(len(recovered)))


def test_the_losses_are_told(tmp_path):
    after_death(tmp_path / "ring", ticks(5000), mode="discard")
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    trace = judge.read(tmp_path / "trace")
    assert len(trace.events) == found.records
    assert sum(lost["count"] for lost in trace.discarded_events) == found.stats.records_lost == 5000 - found.records


def test_what_was_read_is_not_recovered_unless_it_is_wanted(tmp_path):
    def work(tracer):
        ticks(1000)(tracer)
        with tracer.channel.reader() as reader:
            reader.next().release()
            reader.next().release()

    after_death(tmp_path / "ring", work, mode="discard")
    rest = ringbuf.recover(tmp_path / "ring", tmp_path / "rest")
    everything = ringbuf.recover(tmp_path / "ring", tmp_path / "everything", all=True)
    assert (rest.consumed, everything.consumed) == (2, 0)
    assert numbers(tmp_path / "everything") == list(range(1000))
    assert numbers(tmp_path / "rest") == list(range(1000 - rest.records, 1000))
    assert everything.packets == rest.packets + 2
    assert not rest.damaged and not everything.damaged


@pytest.mark.parametrize("lap", [False, True])
def test_the_packet_in_a_dead_readers_hands_is_recovered(tmp_path, lap):
    def work(tracer):
        ticks(1000)(tracer)
        tracer.channel.flush()
        kept.append(tracer.channel.reader())
        kept.append(kept[0].next())
        if lap:
            ticks(5000)(tracer)

    kept = []
    after_death(tmp_path / "ring", work, mode="overwrite")
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    n = numbers(tmp_path / "trace")
    assert n[0] == 0 and n[-1] == (4999 if lap else 999)
    assert found.packets == (9 if lap else 3) and not found.damaged


def test_an_event_of_another_process_and_contexts(tmp_path):
    def work(tracer):
        rings.in_fork(lambda: tracer.event("child", n="u32")(1))
        tracer.event("parent", n="u32")(2)

    after_death(tmp_path / "ring", work, contexts=("vpid", "procname"))
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    child, parent = judge.events(tmp_path / "trace")
    assert (child["name"], parent["name"]) == ("child", "parent")
    assert child["contexts"]["stream"]["vpid"] != parent["contexts"]["stream"]["vpid"] == found.pid


def test_a_channel_in_which_nothing_was_recorded(tmp_path):
    after_death(tmp_path / "ring", lambda tracer: None)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert (found.packets, found.damaged, found.producers) == (0, 0, [])
    assert list(ringbuf.open_trace(tmp_path / "trace")) == []


@pytest.mark.parametrize("mode", MODES)
def test_positions_that_wrap(tmp_path, mode):
    after_death(tmp_path / "ring", ticks(2500), mode=mode, start_position=2**48 - 8 * 4096)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    n = numbers(tmp_path / "trace")
    assert n == list(range(n[0], n[0] + found.records)) and not found.damaged
    assert n[-1] == 2499 if mode == "overwrite" else n[0] == 0


def test_a_clock_of_the_users_own(tmp_path):
    now = [10**9]

    def clock():
        now[0] += 1000
        return now[0]

    after_death(tmp_path / "ring", ticks(500), clock=clock)
    found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert [event["ns"] for event in judge.events(tmp_path / "trace")] == [10**9 + 1000 * n for n in range(1, 501)]
    assert found.end == 10**9 + 500 * 1000


def test_a_format_of_the_clients_own_is_refused(tmp_path):
    class Plain(ringbuf.Client):
        def record_header_size(self, offset, event_id, flags):
            return 8, -offset % 8

        def write_record_header(self, buffer, event_id, timestamp, flags):
            buffer[:] = timestamp.to_bytes(8, "little")

    rings.small(path=tmp_path / "ring", client=Plain()).close()
    with pytest.raises(ringbuf.RegionError, match="a format of its own"):
        ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


# ---- the file ----


def digest(path):
    return hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_file_is_not_touched_and_can_be_recovered_again(tmp_path):
    after_death(tmp_path / "ring", ticks(3000))
    before = digest(tmp_path / "ring")
    first = ringbuf.recover(tmp_path / "ring", tmp_path / "first")
    second = ringbuf.recover(tmp_path / "ring", tmp_path / "second")
    assert digest(tmp_path / "ring") == before
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    assert first.as_dict() == {**second.as_dict(), "directory": str(tmp_path / "first")}


def test_a_read_only_file_in_a_read_only_directory(tmp_path):
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    out.mkdir()
    after_death(folder / "ring", ticks(100))
    (folder / "ring").chmod(0o400)
    folder.chmod(0o555)

    def child():
        if os.geteuid() == 0:  # whom permissions do not stop
            nobody = 65534
            for path in (folder, folder / "ring", out):
                os.chown(path, nobody, nobody)
            for parent in tmp_path.parents:
                os.chmod(parent, os.stat(parent).st_mode | 0o011)
            os.chmod(tmp_path, 0o755)
            os.setresuid(nobody, nobody, nobody)
        with pytest.raises(PermissionError):
            open(folder / "ring", "r+b")
        assert ringbuf.recover(folder / "ring", out / "trace").records == 100

    rings.in_fork(child)
    folder.chmod(0o755)


def test_a_file_in_use_is_refused(tmp_path):
    with rings.tracer(path=tmp_path / "ring") as tracer:
        ticks(10)(tracer)
        with pytest.raises(ringbuf.RegionBusyError, match=f"in use by process {os.getpid()}"):
            ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
        assert not (tmp_path / "trace").exists()
        found = ringbuf.recover(tmp_path / "ring", tmp_path / "trace", force=True)
        assert found.records == 10
        ticks(10)(tracer)
        assert tracer.stats().records_unread == 20
    assert numbers(tmp_path / "trace") == list(range(10))


def test_a_directory_with_a_trace_is_left_alone(tmp_path):
    after_death(tmp_path / "ring", ticks(10))
    ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    before = contents(tmp_path / "trace")
    with pytest.raises(FileExistsError):
        ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert contents(tmp_path / "trace") == before


@pytest.mark.parametrize(
    ("offset", "value", "why"),
    [
        (0, b"not ring", "magic"),
        (8, b"\x63", "layout version"),
        (12, b"\x01\x02\x03\x04", "byte order"),
        (16, b"\0\0\0\0\0\0\0\1", "corrupt"),
        (60, b"\x40", "corrupt"),
    ],
)
def test_what_is_no_region_of_ours_is_refused(tmp_path, offset, value, why):
    after_death(tmp_path / "ring", ticks(10))
    with open(tmp_path / "ring", "r+b") as file:
        file.seek(offset)
        file.write(value)
    with pytest.raises(ringbuf.RegionError, match=why):
        ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("size", [0, 7, 100])
def test_a_file_that_is_hardly_there_is_refused(tmp_path, size):
    after_death(tmp_path / "ring", ticks(10))
    os.truncate(tmp_path / "ring", size)
    with pytest.raises(ringbuf.RegionError, match="magic|truncated"):
        ringbuf.recover(tmp_path / "ring", tmp_path / "trace")


def test_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "ring")
    code = "import ringbuf, sys; ringbuf.recover(*sys.argv[1:])"
    done = rings.script(code, tmp_path / "ring", tmp_path / "trace")
    assert "RegionError" in done.stderr and "magic" in done.stderr
    assert not (tmp_path / "trace").exists()


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        ringbuf.recover(tmp_path / "ring", tmp_path / "trace")
    with pytest.raises(ringbuf.RegionError, match="magic"):
        ringbuf.recover(tmp_path, tmp_path / "trace")


# ---- damage ----

N_RECORDS = 5000
PAGE = 4096


@pytest.fixture(scope="module", params=MODES)
def whole(request, tmp_path_factory):
    """The bytes of a dead channel's file, a ring full of packets, and the numbers that it holds."""
    folder = tmp_path_factory.mktemp("whole")
    after_death(folder / "ring", ticks(N_RECORDS, "some text"), mode=request.param, n_subbufs=16)
    found = ringbuf.recover(folder / "ring", folder / "trace")
    assert found.packets == 16
    return (folder / "ring").read_bytes(), numbers(folder / "trace")


def packets_in(data):
    """Offsets of the packets, one page each."""
    return [at for at in range(0, len(data), PAGE) if data[at : at + 4] == b"\xc1\x1f\xfc\xc1"]


def recover_bytes(data, folder, name):
    """What is recovered of a file with these bytes; None if it is refused."""
    path, directory = folder / f"{name}.ring", folder / name
    path.write_bytes(data)
    try:
        found = ringbuf.recover(path, directory, force=True)
    except ringbuf.RegionError:
        assert not directory.exists()
        return None
    finally:
        path.unlink()
    return found, directory


def assert_is_part(found, directory, n, judged=True):
    """The trace is in order, and has nothing that was not recorded."""
    got = numbers(directory) if judged else [record.fields["n"] for record in ringbuf.open_trace(directory)]
    assert len(got) == found.records
    assert sorted(set(got)) == got and set(got) <= set(n)


def test_a_file_cut_short_gives_what_it_has(tmp_path, whole, rng):
    data, n = whole
    for i in range(6):
        size = rng.randrange(PAGE, len(data))
        found, directory = recover_bytes(data[:size], tmp_path, f"cut{i}")
        assert found.missing == len(data) - size
        assert_is_part(found, directory, n, judged=i % 4 == 0)


def test_a_file_that_lacks_its_last_packet_lacks_that(tmp_path, whole):
    data, n = whole
    found, directory = recover_bytes(data[: packets_in(data)[-1]], tmp_path, "cut")
    assert (found.packets, found.damaged) == (15, 1)
    assert_is_part(found, directory, n)


def test_a_zeroed_packet_costs_that_packet(tmp_path, whole, rng):
    data, n = whole
    for i, at in enumerate(rng.sample(packets_in(data), 3)):
        found, directory = recover_bytes(data[:at] + bytes(PAGE) + data[at + PAGE :], tmp_path, f"zero{i}")
        assert (found.packets, found.damaged) == (15, 1)
        assert_is_part(found, directory, n, judged=i % 4 == 0)


def test_zeroed_pages_anywhere(tmp_path, whole, rng):
    data, n = whole
    # Most pages hold declarations that were never made, or producers that never were.
    pages = [page for page in range(1, len(data) // PAGE) if any(data[page * PAGE : (page + 1) * PAGE])]
    for i, page in enumerate(rng.sample(pages, 6)):
        at = page * PAGE
        recovered = recover_bytes(data[:at] + bytes(PAGE) + data[at + PAGE :], tmp_path, f"zero{i}")
        assert_is_part(*recovered, n, judged=i % 4 == 0)


def test_flipped_bits_in_what_rules_the_packets(tmp_path, whole, rng):
    data, n = whole
    streams = int.from_bytes(data[112:120], "little")  # streams_off
    control = [*range(PAGE, 2 * PAGE), *range(streams - 1024 * 256, streams - 1020 * 256)]
    control += range(streams, packets_in(data)[0] - PAGE)
    for i in range(10):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 200)):
            damaged[rng.choice(control)] ^= 1 << rng.randrange(8)
        assert_is_part(*recover_bytes(damaged, tmp_path, f"flip{i}"), n, judged=i % 8 == 0)


def test_flipped_bits_in_packets_make_a_trace_that_can_be_read(tmp_path, whole, rng):
    """Nobody can tell what the payloads were."""
    data, n = whole
    for i in range(6):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 100)):
            damaged[rng.randrange(packets_in(data)[0], len(data))] ^= 1 << rng.randrange(8)
        found, directory = recover_bytes(damaged, tmp_path, f"flip{i}")
        assert found.records <= len(n)
        assert sum(ringbuf.open_trace(directory).count().values()) == found.records
        if i % 4 == 0 and found.packets:
            assert len(judge.events(directory)) == found.records


def test_a_stream_whose_position_is_lost_is_searched(tmp_path, whole):
    data, n = whole
    at = int.from_bytes(data[112:120], "little")  # streams_off: the position is the stream's first word
    found, directory = recover_bytes(data[:at] + b"\xa5" * 8 + data[at + 8 :], tmp_path, "astray")
    assert found.streams[0].astray
    assert_is_part(found, directory, n)
    assert found.packets >= 15  # all but the one that was open


def test_a_damaged_declaration_costs_the_packets_that_need_it(tmp_path):
    def work(tracer):
        for n in range(1000):
            tracer.event("early" if n < 500 else "late", n="u32")(n)

    after_death(tmp_path / "ring", work)
    data = bytearray((tmp_path / "ring").read_bytes())
    data[data.index(b"laten:u32") + 8] ^= 0xFF
    found, directory = recover_bytes(bytes(data), tmp_path, "trace")
    early = numbers(directory, "early")
    assert early == list(range(len(early))) and len(early) > 200
    assert found.damaged and found.records == len(early)
    assert "lacks" in found.damage[0].reason
