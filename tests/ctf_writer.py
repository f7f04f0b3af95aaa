"""Writes CTF packets byte by byte, in plain Python: the input of the decoder's tests.

Written from the format's description, not from the code that is tested. Only
the text grammar of fields is taken from ringbuf.ctf.schema.
"""

import struct

from ringbuf.ctf import metadata, schema

NUMBERS = {
    "u8": "B",
    "u16": "H",
    "u32": "I",
    "u64": "Q",
    "i8": "b",
    "i16": "h",
    "i32": "i",
    "i64": "q",
    "f32": "f",
    "f64": "d",
    "bool": "?",
}
PAD = b"\xee"


class Packet:
    """One packet in the making."""

    def __init__(self, layout, *, begin=0, cpu=0, seq=0, discarded=0, instance=None):
        self.layout, self.begin, self.cpu, self.seq, self.discarded = layout, begin, cpu, seq, discarded
        self.instance = cpu if instance is None else instance
        self.body = bytearray(layout.packet_header_size)
        self.now = begin
        self.schemas = {event.id: event for event in layout.events}

    def event(self, event_id, ticks, fields=(), contexts=(), common=(), extended=False):
        """Append an event; values in the order of the schema."""
        self._align(self.layout.header_align)
        self.body += self._event_header(event_id, ticks, extended)
        self.now = ticks
        event = self.schemas[event_id]
        self._values(self.layout.contexts, common)
        self._values(event.contexts, contexts)
        self._values(event.fields, fields)
        return self

    def hole(self, length):
        """Append a hole; an event must follow."""
        self._align(self.layout.header_align)
        if self.layout.header == "compact":
            self.body += struct.pack("<I", 30 | length << 5)
        else:
            self.body += struct.pack("<HI", 65534, length)
        self.body += b"\xa5" * length
        return self

    def bytes(self, *, end=None, size=None, **changes):
        """The packet. `changes` replace fields of its header, such as content_size=7."""
        size = size or -(-len(self.body) // 4096) * 4096
        header = {
            "magic": 0xC1FC1FC1,
            "uuid": self.layout.uuid,
            "stream_id": 0,
            "instance": self.instance,
            "begin": self.begin,
            "end": self.now if end is None else end,
            "content_size": 8 * len(self.body),
            "packet_size": 8 * size,
            "seq": self.seq,
            "discarded": self.discarded,
            "cpu": self.cpu,
            **changes,
        }
        values = list(header.values()) if self.layout.per_cpu else list(header.values())[:-1]
        packed = struct.pack("<I16sIQQQQQQQ" + "I" * self.layout.per_cpu, *values)
        return (packed + self.body[len(packed) :]).ljust(size, PAD)

    def _align(self, to):
        self.body += PAD * (-len(self.body) % to)

    def _event_header(self, event_id, ticks, extended):
        large = self.layout.header == "large"
        ids = (65536 if large else 32) - 1 - self.layout.holes
        if extended or event_id >= ids or not 0 <= ticks - self.now < 2**27:
            return struct.pack("<HIQ" if large else "<BIQ", 65535 if large else 31, event_id, ticks)
        if large:
            return struct.pack("<HI", event_id, ticks % 2**32)
        return struct.pack("<I", event_id | ticks % 2**27 << 5)

    def _values(self, text, values):
        fields = schema.parse(text)
        for field, value in zip(fields, values, strict=True):
            self._value(field, value)

    def _value(self, field, value):
        if field.base == "str":
            data = value if isinstance(value, bytes) else value.encode().replace(b"\0", b"\xc0\x80")
            self.body += data + b"\0"
        elif field.base == "bytes":
            self.body += struct.pack("<I", len(value))
            self._align(field.align)
            self.body += value
        elif field.length is None:
            self.body += struct.pack("<" + NUMBERS[field.base], value)
        else:
            if field.length == 0:
                self.body += struct.pack("<I", len(value))
            self.body += struct.pack(f"<{len(value)}{NUMBERS[field.base]}", *value)


def write(directory, layout, **files):
    """Make a trace: each of `files` is a list of packets, as bytes."""
    directory.mkdir(exist_ok=True)
    (directory / "metadata").write_text(metadata.channel_metadata(layout))
    for name, packets in files.items():
        (directory / name).write_bytes(b"".join(packets))
    return directory
