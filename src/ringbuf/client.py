"""Clients: what a channel's records and packets look like; and checks of its parameters."""

import time

__all__ = ["Client", "CtfClient"]


class Client:
    """Callbacks that a channel makes. Override any; what is not overridden stays native and costs nothing.

    The built-in format is CTF 1.8 (docs/formats.md). Callbacks run on the recording
    thread, between reserve and commit; a flush may run them on another. They may record
    themselves: that is a nested record. An exception in one is reported through
    `sys.unraisablehook`, and the packet is delivered all the same. Buffers are valid
    during the call.

    A process that attaches to a channel with overridden callbacks passes an equal client
    to `ringbuf.attach`; pickled channels take theirs along.
    """

    #: Record header of the built-in format: "compact" (5-bit ids, 27-bit times) or "large".
    header = "compact"
    #: Of `clock_read`: ticks per second, and Unix time of tick 0 as seconds and ticks.
    clock_frequency = 1_000_000_000
    clock_offset_s = 0
    clock_offset = 0

    def clock_read(self) -> int:
        """Now, in ticks. A value below the stream's last is raised to it."""
        return time.monotonic_ns()

    def record_header_size(self, offset: int, event_id: int, flags: int) -> tuple[int, int]:
        """Bytes of header, and of padding before it, for a record at `offset` of its packet.

        `flags` & 1: the time is 2**27 ticks or more after the last record's, so the header
        should hold it in full. Must depend on its arguments alone. Override together with
        `write_record_header`; then `Channel.write` adds no length before the payload.
        """
        raise NotImplementedError

    def write_record_header(self, buffer: memoryview, event_id: int, timestamp: int, flags: int) -> None:
        """Write the record header: `buffer` is writable and as long as announced."""
        raise NotImplementedError

    def write_filler(self, buffer: memoryview) -> None:
        """Make a discarded record's bytes a thing that readers of the format skip."""
        buffer[:] = bytes(len(buffer))

    def packet_header_size(self) -> int:
        """Bytes of packet header: asked once, when the channel is created.

        Where it is not overridden, a global channel has 4 bytes less; `Channel.packet_header_size` is exact.
        """
        return 84

    def buffer_begin(self, stream, timestamp: int, subbuf_idx: int, header: memoryview) -> None:
        """A packet begins. `header` is its packet header, writable; the default writes CTF's."""
        stream.channel._native_header(stream.index, subbuf_idx, timestamp, False)

    def buffer_end(self, stream, timestamp: int, subbuf_idx: int, data_size: int, header: memoryview) -> None:
        """A packet is complete, `data_size` bytes with its header; the default completes CTF's header."""
        stream.channel._native_header(stream.index, subbuf_idx, timestamp, True)

    def buffer_create(self, stream, cpu: int, name: str) -> None:
        """A stream was made, in the process that creates the channel."""

    def buffer_finalize(self, stream, cpu: int) -> None:
        """The stream is finalized: nothing is recorded into it any more."""

    def record_get(self, packet: memoryview, offset: int) -> tuple[int, int, int] | None:
        """The record at `offset`: (header bytes with padding, payload bytes, timestamp); None at the end.

        Needed by `Reader.records` if `write_record_header` is overridden.
        """
        raise NotImplementedError


class CtfClient(Client):
    """The built-in client.

    Parameters
    ----------
    header : {"compact", "large"}
        Record header: 4 bytes for up to 30 event types, or 6 bytes for up to 65534. Others,
        and records after long pauses, take 13 or 14 bytes in either.
    """

    def __init__(self, header: str = "compact") -> None:
        self.header = header


def checked_name(name: object) -> bytes:
    """A channel's name as UTF-8, if it is one."""
    if not isinstance(name, str):
        raise TypeError(f"name must be a str, not {type(name).__name__}")
    data = name.encode()
    if not 1 <= len(data) <= 63 or "/" in name or "\0" in name or name in (".", ".."):
        raise ValueError(f"name must be 1 to 63 bytes of UTF-8, without '/' and U+0000, not {name!r}")
    return data


#: Texts that need no look: what is imported for that takes longer than all else that a flight recorder needs.
_CANONICAL = ("", "vpid:i32,vtid:i32")


def checked_contexts(contexts: object) -> bytes:
    """Canonical text of a channel's contexts, as UTF-8."""
    if not isinstance(contexts, str):
        raise TypeError(f"contexts must be a str, schema text, not {type(contexts).__name__}")
    if contexts in _CANONICAL:
        return contexts.encode()
    from .ctf import schema

    fields = schema.parse(contexts)
    for field in fields:
        if field.align != 1:
            raise ValueError(f"context {field.name!r}: records are packed, no context can be aligned")
    text = schema.to_text(fields).encode()
    if len(text) > 1023:
        raise ValueError(f"contexts take {len(text)} bytes as schema text; 1023 is the most")
    return text


def checked_size(what: str, value: object, low: int, high: int) -> int:
    """A power of two within [low, high]."""
    if not isinstance(value, int) or value <= 0 or value & (value - 1) or not low <= value <= high:
        raise ValueError(f"{what} must be a power of two, {low} to {high}, not {value!r}")
    return value


def checked_count(what: str, value: object, high: int, low: int = 1) -> int:
    """A count within [low, high]; None is 0, the default."""
    if value is None:
        return 0
    if not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{what} must be an int, {low} to {high}, not {value!r}")
    return value
