"""The exceptions of ringbuf. Their texts are safe to print, whoever has chosen the names in them."""

from .texts import printable

__all__ = [
    "BufferFullError",
    "ChannelDisabledError",
    "EndOfStream",
    "NestingError",
    "ReaderBusyError",
    "RecordTooLargeError",
    "RegionBusyError",
    "RegionError",
    "RegionUnfinishedError",
    "RingbufError",
    "TooManyProducersError",
    "TraceError",
]


class RingbufError(Exception):
    """Base of the errors that recording and reading raise."""

    def __str__(self) -> str:
        return printable(super().__str__())


class BufferFullError(RingbufError):
    """No room for the record; counted in ``records_lost_full``, ``records_lost_wrap`` or ``records_lost_memory``."""


class RecordTooLargeError(RingbufError):
    """The record cannot fit a sub-buffer; counted in ``records_lost_big``."""


class NestingError(RingbufError):
    """Four records of this thread are open already; counted in ``records_lost_nesting``."""


class TooManyProducersError(RingbufError):
    """More threads record than the channel has producer slots; counted in ``records_lost_slots``."""


class ChannelDisabledError(RingbufError):
    """The channel is disabled or finalized; counted in ``records_lost_disabled``."""


class ReaderBusyError(RingbufError):
    """A living reader has the channel, or one of its streams, already."""


class EndOfStream(RingbufError):
    """The channel is finalized and every packet has been read."""


class RegionError(RingbufError, ValueError):
    """A file or descriptor is not a region that this build can attach to; the message says why."""


class RegionBusyError(RegionError):
    """A living process uses the file, which is to be recovered or removed; the message says which."""


class RegionUnfinishedError(RegionError):
    """The region is being made, or its maker was killed over it; it may be there in a moment."""


class TraceError(ValueError):
    """A trace, or a part of it, cannot be read; the message says where and why."""

    def __str__(self) -> str:
        return printable(super().__str__())
