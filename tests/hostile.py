"""Traces whose metadata and packets are made by hand, to be refused, or read within bounds."""

import os
import struct

HEAD = """/* CTF 1.8 */
typealias integer { size = 1; align = 1; signed = false; } := bit;
typealias integer { size = 8; align = 8; signed = false; } := uint8_t;
typealias integer { size = 32; align = 8; signed = false; } := uint32_t;
typealias integer { size = 64; align = 8; signed = false; } := uint64_t;
trace { major = 1; minor = 8; byte_order = le; packet.header := struct { uint32_t magic; uint32_t stream_id; }; };
clock { name = "c"; freq = 1000000000; offset_s = 0; };
typealias integer { size = 64; align = 8; signed = false; map = clock.c.value; } := time_t;
stream {
    id = 0;
    packet.context := struct {
        time_t timestamp_begin; time_t timestamp_end; uint64_t content_size; uint64_t packet_size;
    };
    event.header := struct { uint8_t id; time_t timestamp; };
};
"""
PACKET_HEADER, EVENT_HEADER = 40, 9


def event(fields, name="e", id=0):
    return f'event {{ name = "{name}"; id = {id}; stream_id = 0; fields := struct {{ {fields} }}; }};\n'


def packet(payloads, *, content=None, size=None, padding=0):
    """Events of id 0, a nanosecond apart. `content` and `size`, in bytes, are what the header says."""
    body = b"".join(struct.pack("<BQ", 0, 1000 + i) + payload for i, payload in enumerate(payloads)) + bytes(padding)
    content = PACKET_HEADER + len(body) if content is None else content
    return struct.pack("<IIQQQQ", 0xC1FC1FC1, 0, 1000, 10**9, 8 * content, 8 * (size or content)) + body


def trace(path, metadata, data, *, length=None, head=HEAD):
    """Write a trace directory; `length` makes the stream's file longer, by a hole."""
    path.mkdir()
    (path / "metadata").write_text(head + metadata)
    with open(path / "stream", "wb") as file:
        file.write(data)
        if length:
            os.ftruncate(file.fileno(), length)
    return path
