"""Writes small CTF 2 traces, from the words of CTF2-SPEC-2.0: plain Python, nothing of ringbuf's.

ctf2_writer.write(directory, {"a": unsigned(8)}, [b"\\1", b"\\2"])
"""

import json
import struct

UUID = bytes(range(100, 116))


def fixed(kind, length, *, align=8, order="little-endian", **more):
    return {"type": f"fixed-length-{kind}", "length": length, "byte-order": order, "alignment": align, **more}


def unsigned(length, **more):
    return fixed("unsigned-integer", length, **more)


def signed(length, **more):
    return fixed("signed-integer", length, **more)


def structure(**members):
    classes = [{"name": name, "field-class": kind} for name, kind in members.items()]
    return {"type": "structure", "member-classes": classes}


def location(*path, origin="event-record-payload"):
    return {"origin": origin, "path": list(path)} if origin else {"path": list(path)}


def role(name, length=64):
    return unsigned(length, roles=[name])


def fragments(fields, *, context=None, common=None, preamble=None, clock=None, aliases=None, event=None):
    """The fragments of a trace with one stream and one event, whose header is a time."""
    header = structure(
        magic=role("packet-magic-number", 32),
        uuid={"type": "static-length-blob", "length": 16, "roles": ["metadata-stream-uuid"]},
    )
    stream = {
        "type": "data-stream-class",
        "default-clock-class-id": "c",
        "packet-context-field-class": structure(
            total=role("packet-total-length"), content=role("packet-content-length"),
            begin=role("default-clock-timestamp"), end=role("packet-end-default-clock-timestamp"), **(context or {}),
        ),
        "event-record-header-field-class": structure(t=role("default-clock-timestamp")),
    }  # fmt: skip
    if common:
        stream["event-record-common-context-field-class"] = structure(**common)
    payload = structure(**fields) if isinstance(fields, dict) and "type" not in fields else fields
    return [
        {"type": "preamble", "version": 2, "uuid": list(UUID), **(preamble or {})},
        *({"type": "field-class-alias", "name": name, "field-class": kind} for name, kind in (aliases or {}).items()),
        {"type": "trace-class", "environment": {"hostname": "h"}, "packet-header-field-class": header},
        {"type": "clock-class", "id": "c", "frequency": 10**9, "origin": "unix-epoch", **(clock or {})},
        stream,
        {"type": "event-record-class", "name": "e", "payload-field-class": payload, **(event or {})},
    ]


def text(parts):
    return "".join(f"\x1e{json.dumps(one)}\n" for one in parts)


def packet(payloads, *, context=b"", begin=1000):
    """A packet; event n is at begin + 10 * (n + 1)."""
    body = b"".join(struct.pack("<Q", begin + 10 * n) + one for n, one in enumerate(payloads, 1))
    bits = 8 * (52 + len(context) + len(body))
    end = begin + 10 * len(payloads)
    return struct.pack("<I16s4Q", 0xC1FC1FC1, UUID, bits, bits, begin, end) + context + body


def write(directory, fields, payloads, *, packet_context=b"", **more):
    """Make a trace of one packet, whose events have these payloads."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metadata").write_text(text(fragments(fields, **more)))
    (directory / "stream").write_bytes(packet(payloads, context=packet_context))
    return directory
