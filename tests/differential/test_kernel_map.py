"""The kernel's mapped ring buffer and ours side by side: the same writes and swaps, the same page, ids and payloads.

Ours gets a client whose packets and records are as large as the kernel's pages and events. Deviations that
docs/mapped.md lists are not compared, and the last tests show them.
"""

import os
import struct

import pytest
from kernels import kernel_ring, tracefs_root  # noqa: F401

import ringbuf

SEQUENCES = int(os.environ.get("SEQUENCES", 1500))
PAGE_UNITS = 4080 // 16


class PageClient(ringbuf.Client):
    """Packets with a header of 16 bytes, records with one of 4, aligned to 4: the sizes of the kernel's."""

    def packet_header_size(self):
        return 16

    def buffer_begin(self, stream, timestamp, subbuf_idx, header):
        pass

    def buffer_end(self, stream, timestamp, subbuf_idx, data_size, header):
        pass

    def record_header_size(self, offset, event_id, flags):
        return 4, -offset % 4

    def write_record_header(self, buffer, event_id, timestamp, flags):
        buffer[:] = b"head"


def event_size(size):
    """Bytes that an event of `size` bytes of data takes, there and here."""
    size = -(-(12 + size) // 4) * 4
    return 4 + size + (4 if size > 112 else 0)


def payload(number, data):
    """As many bytes as the kernel's event has behind its first 4: common fields, id, data; a length if it is long."""
    size = event_size(len(data)) - 4
    return struct.pack("<II", size, number) + data.ljust(size - 8, b"\0")


def ours_new(mapped):
    found, view = [], bytes(mapped.new_data)
    while view:
        assert view[:4] == b"head"
        size, number = struct.unpack_from("<II", view, 4)
        found.append((number, view[12 : 4 + size]))
        view = view[4 + size :]
    return found


def kernel_new(buffer):
    return [(record.fields["id"], record.fields["buf"]) for record in buffer.new_records()]


def page(mapped, n_spares=0):
    """What the meta page says; without the spares, which only ours has."""
    meta = mapped.meta
    return {
        "subbuf_size": meta.subbuf_size,
        "nr_subbufs": meta.nr_subbufs - n_spares,
        "id": meta.reader.id,
        "reader.read": meta.reader.read,
        "flags": meta.flags,
        "entries": meta.entries,
        "overrun": meta.overrun,
        "read": meta.read,
    }


class Pair:
    """One ring in the kernel, one here."""

    def __init__(self, buffer, write, channel, mapped):
        self.buffer, self._write, self.channel, self.mapped = buffer, write, channel, mapped
        self.sent = []
        self.used = 0

    def write(self, size):
        """One event of `size` bytes of data."""
        number = len(self.sent)
        data = bytes(number + i & 0xFF for i in range(size))
        self.sent.append(data)
        self._write(number, data)
        self.channel.write(payload(number, data))

    def write_units(self, n):
        """One event of n * 16 bytes, and before it, if it does not fit, one that fills the page.

        So no page ends with padding, which the kernel hands out too.
        """
        if self.used + n > PAGE_UNITS:
            self.write_units(PAGE_UNITS - self.used)
        self.used = (self.used + n) % PAGE_UNITS
        self.write(16 * n - 16 if n <= 7 else 16 * n - 20)

    def drain(self):
        """Swap until nothing is new, which takes the kernel one more call for the padding of each page."""
        theirs, own = [], []
        for one, new, found in ((self.mapped, ours_new, own), (self.buffer, kernel_new, theirs)):
            one.get_reader()
            while len(one.new_data):
                found += new(one)
                one.get_reader()
        pages = self.pages()
        for one in pages:
            del one["reader.read"]
        assert pages[0] == pages[1]
        self.compare(own, theirs)

    def get_reader(self):
        assert self.mapped.get_reader() == self.buffer.get_reader()
        self.agree()
        own = ours_new(self.mapped)
        self.compare(own, kernel_new(self.buffer))
        return len(own)

    def pages(self):
        return page(self.mapped, self.channel.n_spares), page(self.buffer)

    def agree(self):
        own, theirs = self.pages()
        assert own == theirs

    def compare(self, own, theirs):
        assert [number for number, _ in own] == [number for number, _ in theirs]
        for number, data in own + theirs:  # the kernel rounds sizes up, and leaves there what was there
            assert data.startswith(self.sent[number]), number


def pairs(root, n_subbufs, mode, action):
    """The action on a new pair; in overwrite mode with and without spares, which make no difference to the rest."""
    for n_spares in (0, 8) if mode == "overwrite" else (0,):
        with kernel_ring(root, n_subbufs, overwrite=mode == "overwrite") as (_, buffer, write):
            options = {
                "subbuf_size": 4096,
                "n_subbufs": n_subbufs,
                "mode": mode,
                "streams": "global",
                "n_spares": n_spares,
            }
            with ringbuf.Channel("differential", client=PageClient(), **options) as channel, channel.map() as mapped:
                action(Pair(buffer, write, channel, mapped))


def sequence(pair, rng, pages):
    """A few fills and swaps; at most `pages` pages between two swaps."""
    for _ in range(rng.randrange(1, 5)):
        sizes = rng.choice([[1], [2], range(1, 8), range(1, 20), [60], [125], [250], range(1, 250)])
        left = rng.choice([1, 10, PAGE_UNITS, rng.randrange(1, PAGE_UNITS * pages)])
        while left > 0:
            size = rng.choice(sizes)
            pair.write_units(size)
            left -= size
        for _ in range(rng.choice([0, 1, 1, 2, 8])):
            pair.get_reader()


def swap_all(pair):
    while pair.get_reader():
        pass


@pytest.mark.parametrize("n_subbufs", [2, 4, 8])
def test_overwriting_rings_agree_over_random_sequences(tracefs_root, rng, n_subbufs):  # noqa: F811
    def run(pair):
        for _ in range(SEQUENCES // 3):
            sequence(pair, rng, pages=n_subbufs + 1)
        swap_all(pair)
        assert pair.mapped.meta.overrun > 0

    pairs(tracefs_root, n_subbufs, "overwrite", run)


def test_discarding_rings_agree_while_there_is_room(tracefs_root, rng):  # noqa: F811
    def run(pair):
        for _ in range(SEQUENCES // 10):
            sequence(pair, rng, pages=1)
            swap_all(pair)
        assert (pair.mapped.meta.overrun, pair.mapped.meta.dropped) == (0, 0)

    pairs(tracefs_root, 8, "discard", run)


@pytest.mark.parametrize("mode", ["overwrite", "discard"])
def test_rings_agree_over_events_of_any_size(tracefs_root, rng, mode):  # noqa: F811
    def run(pair):
        for _ in range(SEQUENCES // 10):
            sizes = rng.choice([range(0, 60), range(0, 300), [3900], range(0, 3900)])
            left = rng.randrange(1, 4080 * (6 if mode == "overwrite" else 1))
            while left > 0:
                size = rng.choice(sizes)
                pair.write(size)
                left -= event_size(size)
            pair.drain()

    pairs(tracefs_root, 4, mode, run)


# ---- the cases of the kernel's own test of its mapping ----


def test_an_empty_ring_has_sub_buffer_0(tracefs_root):  # noqa: F811
    def run(pair):
        pair.agree()
        for _ in range(3):
            assert pair.get_reader() == 0
            assert page(pair.mapped)["id"] == 0

    pairs(tracefs_root, 4, "overwrite", run)


def test_sixteen_events_are_handed_out_once(tracefs_root):  # noqa: F811
    def run(pair):
        for _ in range(16):
            pair.write(4)
        assert pair.get_reader() == 16
        for _ in range(3):
            assert pair.get_reader() == 0
            found = page(pair.mapped)
            assert (found["entries"], found["read"], found["id"]) == (16, 16, 1)

    pairs(tracefs_root, 4, "overwrite", run)


def test_behind_the_meta_structure_there_are_zeros(tracefs_root):  # noqa: F811
    def run(pair):
        for one in (pair.mapped, pair.buffer):
            assert not any(one._memory[one.meta.meta_struct_len : one.meta.meta_page_size])

    pairs(tracefs_root, 4, "overwrite", run)


# ---- deviations ----


def test_losses_are_told_here_and_not_in_the_kernels_page(tracefs_root):  # noqa: F811
    def run(pair):
        for _ in range(40):
            pair.write(1000)
        pair.get_reader()
        assert pair.buffer.meta.reader.lost_events == 0
        assert pair.mapped.meta.reader.lost_events == pair.mapped.meta.overrun > 0
        assert pair.buffer.lost_events in (None, pair.buffer.meta.overrun)
        assert pair.mapped.meta.pages_lost * 4 >= pair.mapped.meta.overrun > 0

    pairs(tracefs_root, 4, "overwrite", run)


def test_in_discard_mode_the_readers_sub_buffer_takes_room(tracefs_root):  # noqa: F811
    def run(pair):
        pair.write(3900)
        pair.get_reader()
        for _ in range(20):
            pair.write(3900)
        pair.buffer.get_reader()
        pair.mapped.get_reader()
        assert pair.buffer.meta.entries == 1 + 4
        assert pair.mapped.meta.entries == 1 + 3
        assert pair.mapped.meta.dropped == 17

    pairs(tracefs_root, 4, "discard", run)
