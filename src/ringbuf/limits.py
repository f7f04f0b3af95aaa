"""How much reading a trace may take that somebody else has made."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["DEFAULT", "Limits"]


@dataclass(frozen=True)
class Limits:
    """What a trace may ask of its reader.

    A trace of some kilobytes can describe gigabytes: arrays of elements that take no bytes, enumerations whose
    thousands of labels all fit, files that are holes. What goes beyond a limit raises `ringbuf.TraceError`, which
    names the place and the limit. No trace of a usual tracer comes near the defaults; raise one for a trace that
    you trust.

    Parameters
    ----------
    metadata_size : int
        Bytes of the file ``metadata``.
    packet_size : int
        Bytes of a packet's content, which is read at once.
    empty_values : int
        Values of a packet beyond four for each of its bits: those that take no bytes.
    text_size : int
        Bytes of the text of a packet's events; 4294967295 at most. `Trace.iter_text` and ``ringbuf view`` take
        three times this and 32 MiB: with the default, 500 MiB at most for a trace of one stream.
    seconds : int
        That going through a packet once may take.
    row_size : int
        Bytes of a row of NumPy columns; 2147483647 at most.

    Examples
    --------
    >>> trace = ringbuf.open_trace("big", limits=ringbuf.Limits(packet_size=4 << 30))
    """

    metadata_size: int = 32 << 20
    packet_size: int = 256 << 20
    empty_values: int = 1 << 20
    text_size: int = 128 << 20
    row_size: int = 256 << 20
    seconds: int = 60

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or not 0 < value < 1 << 56:
                raise ValueError(f"limits: {name} is a number from 1 to {(1 << 56) - 1}, not {value!r}")
        for name, most in (("row_size", (1 << 31) - 1), ("text_size", (1 << 32) - 1)):
            if getattr(self, name) > most:
                raise ValueError(f"limits: {name} is {most} at most, not {getattr(self, name)}")


DEFAULT = Limits()
