"""The mapped consumer: a meta page, sub-buffers, and a call that swaps the reader's.

`Mapped` is what a stream of ours (`Mapping`, from `Channel.map`) and a buffer of the
kernel's (`ringbuf.kernel.tracefs.MappedBuffer`) have in common.
"""

from __future__ import annotations

import struct
import time

from .._core import StreamMap, end_packet
from ..errors import RegionError
from .merge import content_decoder

__all__ = ["Mapped", "Mapping", "Meta"]

_PERIOD = 0.01  # between looks for records


class _View:
    """Named integers at fixed offsets of a buffer, read when they are asked for."""

    _fields: dict[str, tuple[str, int]]

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory

    def __init_subclass__(cls) -> None:
        for name, (kind, offset) in cls._fields.items():
            setattr(cls, name, property(_getter(struct.Struct(kind), offset)))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} " + ", ".join(f"{name}={getattr(self, name)}" for name in self._fields) + ">"


def _getter(kind: struct.Struct, offset: int):
    return lambda self: kind.unpack_from(self._memory, offset)[0]


class ReaderMeta(_View):
    """The part of `Meta` about the reader's sub-buffer.

    ``lost_events``: records overrun between it and the one before; the kernel leaves that 0.
    ``id``: its number. ``read``: bytes of it that were handed out, without its header.
    """

    _fields = {"lost_events": ("<Q", 16), "id": ("<I", 24), "read": ("<I", 28)}


class Meta(_View):
    """A live view of a meta page. Its content is as of the last `Mapped.get_reader` of any mapper.

    ``meta_page_size``, ``meta_struct_len``, ``subbuf_size``, ``nr_subbufs`` (the reader's
    included) do not change. ``entries``, ``overrun``, ``read``: records committed,
    overwritten, handed out, ever; what is left is ``entries - overrun - read``. ``flags``
    is 0. ``reader`` is a `ReaderMeta`. ``pages_lost`` and ``pages_touched`` count
    sub-buffers; kernels before 6.19 leave them 0.

    Where ``meta_struct_len`` is 104, in ours, there are also ``dropped``, ``discarded`` and
    ``torn``: records refused, given up, and left unfinished by a producer that died. In the
    kernel's they raise AttributeError.
    """

    _fields = {
        "meta_page_size": ("<I", 0),
        "meta_struct_len": ("<I", 4),
        "subbuf_size": ("<I", 8),
        "nr_subbufs": ("<I", 12),
        "flags": ("<Q", 32),
        "entries": ("<Q", 40),
        "overrun": ("<Q", 48),
        "read": ("<Q", 56),
        "pages_lost": ("<Q", 64),
        "pages_touched": ("<Q", 72),
    }
    _ours = {"dropped": 80, "discarded": 88, "torn": 96}

    @property
    def reader(self) -> ReaderMeta:
        return ReaderMeta(self._memory)

    def __getattr__(self, name: str) -> int:
        offset = self._ours.get(name)
        if offset is None or offset + 8 > self.meta_struct_len:
            raise AttributeError(name)
        return struct.unpack_from("<Q", self._memory, offset)[0]


class Mapped:
    """Common interface of mapped streams. A context manager.

    Memoryviews that were taken stay valid after `close`, but producers go on: only the
    reader's sub-buffer stands still, until the next `get_reader`.
    """

    _memory: memoryview  # meta page, then sub-buffers
    _header_size: int  # of a sub-buffer, before its data
    _new: tuple[int, int] = (0, 0)  # what the last get_reader handed out

    @property
    def meta(self) -> Meta:
        """The meta page."""
        self._check()
        return Meta(self._memory)

    def subbuf(self, subbuf_id: int) -> memoryview:
        """The sub-buffer with this id, its header included. Producers may be writing in it."""
        meta = self.meta
        if not 0 <= subbuf_id < meta.nr_subbufs:
            raise IndexError(f"sub-buffer {subbuf_id} of {meta.nr_subbufs}")
        size = meta.subbuf_size
        begin = meta.meta_page_size + subbuf_id * size
        found = self._memory[begin : begin + size]
        if len(found) != size:
            raise RegionError(f"the meta page is damaged: sub-buffer {subbuf_id} is not in the mapping")
        return found

    @property
    def reader_data(self) -> memoryview:
        """The bytes that were handed out of the reader's sub-buffer, its header left out; no copy."""
        return self._at_hand()[self._header_size : self._header_size + self.meta.reader.read]

    @property
    def new_data(self) -> memoryview:
        """Of these, what the last `get_reader` of this object added; empty if it found nothing new."""
        begin, end = self._new
        return self._at_hand()[begin:end]

    def _at_hand(self) -> memoryview:
        """The reader's sub-buffer, by what the meta page says: every process that shares it can write there."""
        meta = self.meta
        number = meta.reader.id
        if number >= meta.nr_subbufs:
            raise RegionError(f"the meta page is damaged: the reader's sub-buffer is {number} of {meta.nr_subbufs}")
        return self.subbuf(number)

    def get_reader(self, block: bool = False, timeout: float | None = None, percent: int = 0) -> int:
        """Hand out what is new, as the kernel does, and refresh `meta`.

        Nothing new: nothing changes. More in the sub-buffer at hand: ``meta.reader.read``
        grows, the id stays. Else: the next sub-buffer, if it has records.

        Parameters
        ----------
        block : bool
            First wait until there is something; see `wait`.
        timeout : float or None
            Seconds to wait; None: for ever.
        percent : int
            How much of the buffer is to be full; 0: anything will do.

        Returns
        -------
        int
            Id of the reader's sub-buffer.
        """
        if block:
            self.wait(timeout, percent)
        return self._get_reader()

    def _check(self) -> None:
        raise NotImplementedError

    def _get_reader(self) -> int:
        raise NotImplementedError

    def wait(self, timeout: float | None = None, percent: int = 0) -> bool:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self):
        return self

    def __exit__(self, *exc) -> None:
        self.close()


class Mapping(Mapped):
    """A stream of a channel, mapped. From `Channel.map`.

    Several mappings of a stream, in any processes, share one reader's sub-buffer and
    compete. They exclude readers, recorders, snapshots and `Channel.clear`, which raise
    ReaderBusyError meanwhile. A forked child must make its own.

    Thread safety: any thread, but `new_data` and `records` are for one.
    Source: include/ringbuf/map.h.
    """

    def __init__(self, channel, cpu: int | None = 0) -> None:
        self._notifier = None
        self._map = StreamMap(channel, 0 if cpu is None or not channel.per_cpu else cpu)
        self._memory = memoryview(self._map)
        self._header_size = channel.packet_header_size
        self.channel = channel
        #: CPU of the stream, or None
        self.cpu = self._map.stream if channel.per_cpu else None

    def _check(self) -> None:
        self._map.check()

    def _get_reader(self) -> int:
        subbuf_id = self._map.get_reader()
        self._new = self._map.new_range
        return subbuf_id

    def wait(self, timeout: float | None = None, percent: int = 0) -> bool:
        """Wait for something new, or until `percent` of the sub-buffers are full.

        Also ends when somebody calls `wake`, or the channel is finalized. As in the kernel,
        the sub-buffer being written counts as full, and with a percentage nothing is ready
        while producers are in the reader's. Records wake nobody before they fill a
        sub-buffer; they are found by looking, every ``read_timer`` of the channel.

        Returns
        -------
        bool
            False on time-out.
        """
        return self._map.wait(timeout, _percentage(percent))

    def wake(self) -> None:
        """End every `wait` on this stream, in every process."""
        self._map.wake()

    def flush(self) -> None:
        """End the stream's current packet; see `Channel.flush`."""
        self._map.flush()

    def clear(self) -> None:
        """Throw away all that was not handed out; it counts as overrun. The reader's sub-buffer may be another."""
        self._map.clear()

    def fileno(self) -> int:
        """A descriptor that is readable while there is something new, for event loops."""
        from .notify import Notifier

        self._check()
        if self._notifier is None:
            self._notifier = Notifier(self)
        return self._notifier.fileno()

    def _lower(self) -> None:
        if self._notifier is not None:
            self._notifier.lower()

    async def next_reader(self) -> int:
        """Wait in an asyncio loop for something new, then `get_reader`."""
        from .notify import readable

        while True:
            subbuf_id = self.get_reader()
            if len(self.new_data) or self._map.is_at_end():
                return subbuf_id
            await readable(self)

    def records(self, timeout: float | None = None):
        """Iterate over records as they are committed, until the channel is finalized and drained.

        Parameters
        ----------
        timeout : float, optional
            Stop after this many seconds without one.

        Yields
        ------
        Record
            As from `Reader.records`.
        """
        decode = content_decoder(self.channel)
        done = 0  # records of the sub-buffer at hand that were yielded
        last = time.monotonic()
        while True:
            self.get_reader()
            begin, end = self._new
            if begin < end:
                records = decode(self._packet(end), end, self.cpu)
                done = done if begin > self._header_size else 0
                yield from records[done:]
                done = len(records)
                last = time.monotonic()
            elif self._map.is_at_end():
                return
            elif timeout is not None and time.monotonic() - last >= timeout:
                return
            else:
                self._flush_if_held_back()
                self._map.wait(_PERIOD, 0)

    def _packet(self, size: int) -> memoryview:
        """The first `size` bytes of the reader's sub-buffer as a packet of that size, a copy."""
        packet = bytearray(self.subbuf(self.meta.reader.id)[:size])
        if self.channel.is_ctf:
            end_packet(packet)
        return memoryview(packet)

    def _flush_if_held_back(self) -> None:
        """Where a record was discarded, those after it wait for the end of the packet."""
        meta = self.meta
        if meta.entries > meta.overrun + meta.read:
            self.flush()

    @property
    def closed(self) -> bool:
        return self._map.closed

    def close(self) -> None:
        """Give up the right to read. What was not handed out stays for the next reader. Twice is harmless."""
        if self._notifier is not None:
            self._notifier.close()
            self._notifier = None
        self._memory.release()
        self._map.close()

    def __repr__(self) -> str:
        return f"<ringbuf.live.mapping.Mapping of stream {self._map.stream}{', closed' if self.closed else ''}>"


def _percentage(value: int) -> int:
    if not 0 <= value <= 100:
        raise ValueError(f"percent must be 0 to 100, not {value!r}")
    return value
