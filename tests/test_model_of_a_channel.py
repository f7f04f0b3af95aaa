"""Any calls in any order do what a channel of lists and integers does: each record, loss and time is predicted."""

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule

import ringbuf

EXAMPLES = int(os.environ.get("RINGBUF_EXAMPLES", 60))
STEPS = 60
RUN = 50 * EXAMPLES

SUBBUF = 4096
HEADER = 80  # of a packet in a global stream
NESTING = 4
SHORT = 1 << 27  # ticks that a short timestamp can tell


@dataclass
class Packet:
    number: int
    begin: int
    records: dict = field(default_factory=dict)  # where it begins -> (where it ends, payload, align)
    open: int = 0  # reservations
    closed: bool = False
    read: bool = False
    parked: bool = False
    end: int = 0
    lost: int = 0

    @property
    def delivered(self):
        return self.closed and not self.open


@dataclass
class Reserved:
    handle: int
    slot: ringbuf.Channel
    packet: Packet
    begin: int
    end: int
    payload: bytes
    align: int
    time: int
    mark: tuple  # where the position stood after it


class Model:
    """One stream of `n` sub-buffers, and some spares for those in which something is open when the ring comes round."""

    def __init__(self, n, discards, large, n_spares):
        self.n, self.discards, self.large = n, discards, large
        self.n_spares = self.spares = 0 if discards else n_spares  # all, and those that are left
        self.ring = {}  # number -> Packet: those that no other stands in the place of
        self.current = None
        self.next_number = 0
        self.off = 0
        self.tag = 0
        self.consumed = 0
        self.held = None
        self.time = self.base = 0
        self.open = [0, 0]  # reservations of each handle
        self.disabled = self.finalized = False
        self.count = dict.fromkeys(
            "written discarded full wrap big nesting disabled read overrun cleared packets parked".split(), 0
        )

    @property
    def mark(self):
        return self.next_number, self.off, self.tag

    @property
    def lost(self):
        """What packets tell: of those that the stream has seen."""
        return sum(self.count[cause] for cause in ("full", "wrap", "big", "nesting"))

    def now(self, clock):
        self.time = max(self.time, clock)
        return self.time

    # -- producing --

    def layout(self, off, size, align, now):
        short = now - self.base < SHORT
        header = (6 if self.large else 4) if short else (14 if self.large else 13)
        payload = off + -off % 4 + header + 4  # and the length
        return payload + -payload % align + size

    def is_free(self):
        """Why the next sub-buffer may not be entered, or None."""
        victim = self.ring.get(self.next_number - self.n)
        if victim and not victim.delivered and not self.spares:
            return "wrap"
        if self.discards and self.next_number - self.n >= self.consumed:
            return "full"
        return None

    def close(self, now, lost):
        self.current.closed, self.current.end, self.current.lost = True, now, lost
        self.current, self.off = None, 0

    def enter(self, now):
        victim = self.ring.pop(self.next_number - self.n, None)
        if victim and not victim.read and victim is not self.held:
            self.count["overrun"] += len(victim.records)
        if victim and not victim.delivered:
            victim.parked = True
            self.count["parked"] += 1
            self.spares -= 1
        self.current = self.ring[self.next_number] = Packet(self.next_number, now)
        self.next_number += 1
        self.off = HEADER

    def reserve(self, handle, size, align, clock):
        """The packet, and begin, end and time of the record; or the cause of its loss."""
        if self.disabled or self.finalized:
            return "disabled"
        if self.open[handle] == NESTING:
            return "nesting"
        now, lost = self.now(clock), self.lost
        if size >= SUBBUF:
            return "big"
        if not self.current or self.layout(self.off, size, align, now) > SUBBUF:
            if self.layout(HEADER, size, align, now) > SUBBUF:
                return "big"
            refusal = self.is_free()
            if refusal:
                return refusal
            if self.current:
                self.close(now, lost)
            self.enter(now)
        packet, begin = self.current, self.off
        self.off = end = self.layout(self.off, size, align, now)
        packet.open += 1
        self.open[handle] += 1
        if end == SUBBUF:
            self.close(now, lost)
        return packet, begin, end, now

    def commit(self, r):
        r.packet.records[r.begin] = r.end, r.payload, r.align
        self.base = r.time
        self.count["written"] += 1
        self.count["overrun"] += r.packet.parked
        self.give_up(r)

    def discard(self, r):
        self.count["discarded"] += 1
        self.give_up(r)
        if r.mark == self.mark and self.current:
            self.off = r.begin
            self.tag += 1

    def give_up(self, r):
        r.packet.open -= 1
        self.spares += r.packet.parked and not r.packet.open
        self.open[r.handle] -= 1

    def flush(self, clock, empty=False):
        now = self.now(clock)
        if self.current:
            self.close(now, self.lost)
        elif empty and not self.finalized and not self.is_free():
            self.enter(now)
            self.close(now, self.lost)

    # -- reading --

    def unread(self):
        """Packets that are or will be there, oldest first."""
        numbers = range(max(self.consumed, self.next_number - self.n), self.next_number)
        return [self.ring[number] for number in numbers if not self.ring[number].read]

    def next(self):
        waiting = self.unread()
        if waiting and waiting[0].delivered:
            self.held = waiting[0]
        return self.held

    def release(self, read=True):
        if not self.held:
            return
        self.held.read = True
        self.consumed = max(self.consumed, self.held.number + 1)
        self.count["packets"] += 1
        for counter in ["read"] if read else ["overrun", "cleared"]:
            self.count[counter] += len(self.held.records)
        self.held = None

    def stats(self):
        in_ring = [packet for packet in self.ring.values() if not packet.read]
        if self.held and self.held not in in_ring:
            in_ring.append(self.held)
        count = self.count
        return ringbuf.Stats(
            records_written=count["written"],
            records_discarded=count["discarded"],
            records_lost_full=count["full"],
            records_lost_wrap=count["wrap"],
            records_lost_big=count["big"],
            records_lost_nesting=count["nesting"],
            records_lost_disabled=count["disabled"],
            records_read=count["read"],
            records_overrun=count["overrun"],
            records_cleared=count["cleared"],
            records_unread=sum(len(packet.records) for packet in in_ring),
            packets_read=count["packets"],
            packets_parked=count["parked"],
            parked_now=self.n_spares - self.spares,
        )


def payloads(view, size, large, aligns):
    """The records of a packet's content. Their aligns are not in it. Shares no code with the library."""
    off, found = HEADER, []
    while off < size:
        off += -off % 4
        word = int.from_bytes(view[off : off + 2 if large else off + 4], "little")
        tag = word if large else word & 31
        hole, extended, short = (65534, 65535, 6) if large else (30, 31, 4)
        if tag == hole:
            skipped = int.from_bytes(view[off + 2 : off + 6], "little") if large else word >> 5
            off += short + skipped
            continue
        off += (14 if large else 13) if tag == extended else short
        length = int.from_bytes(view[off : off + 4], "little")
        off += 4
        off += -off % aligns[len(found)]
        found.append(bytes(view[off : off + length]))
        off += length
    assert off == size
    return found


def check_packet(packet, model, large):
    records = [model.records[begin] for begin in sorted(model.records)]
    assert packet.sequence_number == model.number
    assert packet.n_records == len(records)
    assert (packet.timestamp_begin, packet.timestamp_end) == (model.begin, model.end)
    assert packet.events_discarded == model.lost
    assert packet.content_size == (records[-1][0] if records else HEADER)
    with memoryview(packet) as view:
        found = payloads(view, packet.content_size, large, [align for _, _, align in records])
    assert found == [payload for _, payload, _ in records]


TICKS = [1, 1, 1, 1000, SHORT // 2, SHORT - 1, SHORT, 1 << 40, -5]
ALIGNS = [1, 1, 1, 2, 8, 64]
RANGES = [(0, 40), (200, 1500), (3900, 4200)]
SIZES = st.one_of(*(st.integers(*bounds) for bounds in RANGES))


class ChannelMachine(RuleBasedStateMachine):
    reserved = Bundle("reserved")

    @initialize(
        n=st.sampled_from([2, 4]),
        mode=st.sampled_from(["discard", "overwrite"]),
        header=st.sampled_from(["compact", "large"]),
        n_spares=st.integers(0, 3),
        wraps=st.booleans(),
    )
    def create(self, n, mode, header, n_spares, wraps):
        self.clock = 1000
        self.large = header == "large"
        self.model = Model(n, mode == "discard", self.large, n_spares)
        self.channel = ringbuf.Channel(
            "model",
            subbuf_size=SUBBUF,
            n_subbufs=n,
            mode=mode,
            streams="global",
            client=ringbuf.CtfClient(header=header),
            clock=lambda: self.clock,
            n_producers=4,
            n_spares=n_spares,
            start_position=(1 << 48) - 8 * SUBBUF if wraps else 0,
        )
        self.handles = [self.channel, ringbuf.attach(self.channel.fileno(), clock=lambda: self.clock)]
        self.reader = None
        self.written = 0

    def teardown(self):
        if not hasattr(self, "channel"):
            return
        if self.reader:
            self.reader.close()
        for handle in self.handles:
            handle.close()

    def payload(self, size):
        self.written += 1
        return (self.written.to_bytes(4, "little") * (size // 4 + 1))[:size]

    # -- producing --

    @rule(ticks=st.sampled_from(TICKS))
    def time_passes(self, ticks):
        self.clock += ticks

    @rule(handle=st.integers(0, 1), size=SIZES, align=st.sampled_from(ALIGNS))
    def write(self, handle, size, align):
        payload = self.payload(size)
        expected = self.model.reserve(handle, size, align, self.clock)
        assert self.handles[handle].write(payload, align) == (not isinstance(expected, str))
        if isinstance(expected, str):
            self.model.count[expected] += 1
        else:
            packet, begin, end, time = expected
            self.model.commit(Reserved(handle, None, packet, begin, end, payload, align, time, None))

    @rule(n=st.integers(2, 12), size=st.integers(300, 1300))
    def write_many(self, n, size):
        for _ in range(n):
            self.write(0, size, 1)

    @rule(target=reserved, handle=st.integers(0, 1), size=SIZES, align=st.sampled_from(ALIGNS))
    def reserve(self, handle, size, align):
        payload = self.payload(size)
        expected = self.model.reserve(handle, size, align, self.clock)
        slot = self.handles[handle].try_reserve(size, align)
        if isinstance(expected, str):
            assert slot is None
            self.model.count[expected] += 1
            return None
        packet, begin, end, time = expected
        assert slot.timestamp == time
        slot.payload[:] = payload
        return Reserved(handle, slot, packet, begin, end, payload, align, time, self.model.mark)

    @rule(r=consumes(reserved))
    def commit(self, r):
        if r:
            r.slot.commit()
            self.model.commit(r)

    @rule(r=consumes(reserved))
    def discard(self, r):
        if r:
            r.slot.discard()
            self.model.discard(r)

    @rule(empty=st.booleans(), handle=st.integers(0, 1))
    def flush(self, empty, handle):
        if self.model.open[handle] == NESTING:
            with pytest.raises(ringbuf.NestingError):
                self.handles[handle].flush(empty)
            return
        self.handles[handle].flush(empty)
        self.model.flush(self.clock, empty)

    @rule(on=st.booleans())
    def disable_or_enable(self, on):
        (self.channel.disable if on else self.channel.enable)()
        self.model.disabled = on

    @precondition(lambda self: self.model.open[0] < NESTING and self.written > 20)
    @rule()
    def finalize(self):
        self.channel.finalize()
        self.model.finalized = True
        if self.model.current:
            self.model.flush(self.clock)

    # -- reading --

    @precondition(lambda self: self.reader is None)
    @rule(handle=st.integers(0, 1))
    def open_reader(self, handle):
        self.reader = self.handles[handle].reader()
        self.reader_of = handle
        with pytest.raises(ringbuf.ReaderBusyError):
            self.handles[not handle].reader()

    @precondition(lambda self: self.reader)
    @rule()
    def close_reader(self):
        self.reader.close()
        self.reader = None
        self.model.release()

    @precondition(lambda self: self.reader)
    @rule(n=st.integers(1, 3))
    def read(self, n):
        for _ in range(n):
            self.model.release()
            expected = self.model.next()
            if self.model.finalized and not self.model.unread():
                with pytest.raises(ringbuf.EndOfStream):
                    self.reader.next(timeout=0)
                return
            packet = self.reader.next(timeout=0)
            assert (packet is None) == (expected is None)
            if packet:
                check_packet(packet, expected, self.large)

    @precondition(lambda self: self.reader and self.model.open[self.reader_of] < NESTING)
    @rule()
    def snapshot(self):
        self.model.release()
        self.model.flush(self.clock)
        expected = [packet for packet in self.model.unread() if packet.delivered]
        found = 0
        for packet, wanted in zip(self.reader.snapshot(), expected, strict=True):
            check_packet(packet, wanted, self.large)
            found += 1
        assert found == len(expected)

    @precondition(lambda self: self.reader is None and self.model.open[0] < NESTING)
    @rule()
    def clear(self):
        self.channel.clear()
        self.model.flush(self.clock)
        while self.model.next():
            self.model.release(read=False)

    # -- looking --

    @rule()
    def repair(self):
        assert self.channel.repair() == 0  # everybody lives

    @invariant()
    def counts(self):
        if hasattr(self, "model"):
            assert self.handles[1].stats() == self.model.stats()
            assert self.channel.is_disabled == (self.model.disabled or self.model.finalized)
            assert self.channel.is_finalized == self.model.finalized


# Few steps, and a failure is made small.
TestChannel = ChannelMachine.TestCase
TestChannel.settings = settings(max_examples=EXAMPLES, stateful_step_count=STEPS)


def take_a_step(machine, rng, reserved):
    """One of the machine's rules, the frequent ones more often."""
    handle, size, align = rng.randrange(2), rng.randint(*rng.choice(RANGES)), rng.choice(ALIGNS)
    kind = rng.randrange(100)
    if kind < 15:
        machine.time_passes(rng.choice(TICKS))
    elif kind < 35:
        machine.write(handle, size, align)
    elif kind < 55:
        reserved.append(machine.reserve(handle, size, align))
    elif kind < 80 and reserved:
        end = machine.commit if kind % 2 else machine.discard
        end(reserved.pop(rng.choice([-1, rng.randrange(len(reserved))])))
    elif kind < 84:
        machine.flush(kind % 2 == 0, handle)
    elif kind < 86:
        machine.disable_or_enable(kind == 85 and rng.randrange(4) == 0)
    elif not machine.reader:
        if kind < 88 and machine.model.open[0] < NESTING:
            machine.clear()
        elif kind > 90:
            machine.open_reader(handle)
    elif kind < 88:
        machine.close_reader()
    elif kind > 97 and machine.model.open[machine.reader_of] < NESTING:
        machine.snapshot()
    else:
        machine.read(1)
    machine.counts()


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("n", [2, 4])
def test_a_long_run_at_random_is_predicted(rng, mode, header, n):
    """Many steps, so that rings come round often, with everything open that can be."""
    machine, reserved = ChannelMachine(), []
    machine.create(n, mode, header, n_spares=rng.randrange(8), wraps=rng.random() < 0.5)
    try:
        for _ in range(RUN):
            take_a_step(machine, rng, reserved)
        for r in reserved:
            machine.commit(r)
        machine.finalize()
        if not machine.reader:
            machine.open_reader(0)
        while machine.model.unread() or machine.model.held:
            machine.read(1)
            machine.counts()
        machine.read(1)
    finally:
        machine.teardown()
