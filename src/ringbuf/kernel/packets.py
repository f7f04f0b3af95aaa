"""Events of the kernel: their ``format`` files, and what their fields are in CTF."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path

from .._decode import Decoder, KernelPackets
from ..ctf import tsdl
from ..ctf.metadata import ChannelLayout, ClockInfo, channel_metadata, kernel_metadata

__all__ = ["EventFormat", "KernelDecoder", "parse_format"]

# Kinds of kernel.h.
_COPY, _TEXT_LOC, _BYTES_LOC, _TEXT_REL, _BYTES_REL, _TEXT_TAIL, _BYTES_TAIL = range(7)

_LINE = re.compile(
    r"\s*field:(?P<declaration>[^;]+);\s*offset:(?P<offset>\d+);\s*size:(?P<size>\d+);\s*signed:(?P<signed>\d);"
)
_DECLARATION = re.compile(r"(?P<type>.*?)\s*\b(?P<name>\w+)\s*(?:\[(?P<length>[^\]]*)\])?$")
_COMMON = ("common_flags", "common_preempt_count", "common_pid")


@dataclass(frozen=True)
class EventFormat:
    """One event of the kernel.

    Attributes
    ----------
    id : int
        As in its records.
    name : str
    plan : tuple of (int, int, int)
        Offset, size and kind of each field, the common ones first: for KernelPackets.
    tsdl : str
        Declarations of the fields, without the common ones.
    """

    id: int
    name: str
    plan: tuple[tuple[int, int, int], ...]
    tsdl: str


def parse_format(text: str) -> EventFormat:
    """The event that a ``format`` file describes; ValueError if it is none."""
    name = re.search(r"^name: (.+)$", text, re.M)
    number = re.search(r"^ID: (\d+)$", text, re.M)
    if not name or not number:
        raise ValueError("not a format file: it has no name, or no ID")
    fields = [_field(line, name[1]) for line in text.splitlines() if line.lstrip().startswith("field:")]
    common = {one.name: one for one in fields if one.name in _COMMON}
    own = [one for one in fields if not one.name.startswith("common_")]
    if len(common) < len(_COMMON):
        raise ValueError(f"the format of {name[1]} lacks {set(_COMMON) - set(common)}")
    plan = tuple(one.plan for one in [*(common[name] for name in _COMMON), *own])
    return EventFormat(int(number[1]), name[1], plan, "".join(one.tsdl for one in own))


@dataclass(frozen=True)
class _Field:
    name: str
    plan: tuple[int, int, int]
    tsdl: str


def _field(line: str, event: str) -> _Field:
    found = _LINE.match(line)
    parts = _DECLARATION.match(found["declaration"].strip()) if found else None
    if not parts:
        raise ValueError(f"the format of {event} has a field that is none: {line.strip()!r}")
    kind, name, length = parts["type"], parts["name"], parts["length"]
    offset, size, signed = int(found["offset"]), int(found["size"]), found["signed"] == "1"
    is_text = bool(re.search(r"\bchar\b", kind)) and not re.search(r"\b(?:unsigned|signed)\b", kind)
    if kind.startswith(("__data_loc", "__rel_loc")):
        relative = kind.startswith("__rel_loc")
        if is_text:
            return _text(name, (offset, size, _TEXT_REL if relative else _TEXT_LOC))
        return _bytes(name, (offset, size, _BYTES_REL if relative else _BYTES_LOC))
    if length is not None and size == 0:
        # The only one that is no text is what users write as they like.
        if is_text and event != "raw_data":
            return _text(name, (offset, size, _TEXT_TAIL))
        return _bytes(name, (offset, size, _BYTES_TAIL))
    return _Field(name, (offset, size, _COPY), f"\t\t{_copied(name, length, size, signed, is_text)}\n")


def _text(name, plan) -> _Field:
    return _Field(name, plan, f"\t\tstring {{ encoding = UTF8; }} _{name};\n")


def _bytes(name, plan) -> _Field:
    return _Field(name, plan, f"\t\tuint32_t __{name}_length;\n\t\tbyte_t _{name}[__{name}_length];\n")


def _copied(name, length, size, signed, is_text) -> str:
    """The declaration of bytes that stand in the event itself."""
    if length is None and size in (1, 2, 4, 8):
        return f"{'' if signed else 'u'}int{8 * size}_t _{name};"
    if is_text:
        return f"integer {{ size = 8; align = 8; signed = false; encoding = UTF8; }} _{name}[{size}];"
    count = int(length) if length and length.isdigit() else 0
    if count and size % count == 0 and size // count in (2, 4, 8):
        return f"{'' if signed else 'u'}int{8 * (size // count)}_t _{name}[{count}];"
    return f"byte_t _{name}[{size}];"


class KernelDecoder:
    """Makes packets, records and arrays of the kernel's sub-buffers.

    Parameters
    ----------
    events : directory
        ``events`` of tracefs.
    clock : ClockInfo
        What the times in the sub-buffers count.
    uuid : bytes of length 16
        Of the trace that the packets are for.
    only : set of int, optional
        Ids of events; others are left out.
    """

    def __init__(self, events, clock: ClockInfo, uuid: bytes = bytes(16), only=None) -> None:
        self._events = Path(events)
        self._clock = clock
        self._uuid = uuid
        self._only = only
        self._formats: dict[int, EventFormat] | None = None

    @property
    def formats(self) -> dict[int, EventFormat]:
        """Every event of the kernel, by id."""
        if self._formats is None:
            self._load()
        return self._formats

    def _load(self) -> None:
        self._formats = {}
        for path in self._events.glob("*/*/format"):
            try:
                event = parse_format(path.read_text())
            except (ValueError, OSError):
                continue  # its records count as unknown
            if self._only is None or event.id in self._only:
                self._formats[event.id] = event
        self._packets = KernelPackets(self._uuid, {event.id: event.plan for event in self._formats.values()})
        self._decoder = None

    def metadata(self, ids=None) -> str:
        """TSDL of the stream class, to be appended to a metadata text; all events, or those given."""
        events = self.formats.values() if ids is None else [self.formats[one] for one in ids]
        return kernel_metadata(self._clock, [(one.id, one.name, one.tsdl) for one in events])

    @property
    def unknown(self) -> int:
        """Events seen so far that no format file describes."""
        return self._packets.unknown if self._formats is not None else 0

    def packet(self, subbuf, begin: int, end: int, **header) -> bytes:
        """See `KernelPackets.packet`. Events that were created since are looked for once more."""
        formats, before = self.formats, self.unknown
        packet = self._packets.packet(subbuf, begin, end, **header)
        if self._only is None and self.unknown > before and _newest(self._events) - formats.keys():
            self._load()
            packet = self._packets.packet(subbuf, begin, end, **header)
        return packet

    @property
    def _reader(self) -> Decoder:
        if self._decoder is None:
            layout = ChannelLayout(self._uuid, "large", True, self._clock, holes=False)
            self._decoder = Decoder(tsdl.parse(channel_metadata(layout) + self.metadata()))
        return self._decoder

    def records(self, packet: bytes, cpu: int | None = None) -> list:
        """The records of a packet: ``timestamp`` in ticks, ``name``, ``cpu``, ``fields``, ``contexts``."""
        return list(self._reader.records(packet, cpu=cpu)) if packet else []

    def arrays(self, packet: bytes, name: str | None = None):
        """Structured arrays of a packet by name of event, or that of one event."""
        found = self._reader.to_numpy(packet, name)
        return found if name is not None else {name: rows for name, rows in found.items() if len(rows)}


def _newest(events: Path) -> set[int]:
    """Ids of all events there are now."""
    return {int(path.read_text()) for path in events.glob("*/*/id")}


def commit_of(subbuf) -> tuple[int, int | None]:
    """(bytes of events, events that were lost before them; None: some, but nobody knows how many)."""
    (word,) = struct.unpack_from("<Q", subbuf, 8)
    size = min(word & ((1 << 30) - 1), len(subbuf) - 16)
    if not word & 1 << 31:
        return size, 0
    if word & 1 << 30 and size + 8 <= len(subbuf) - 16:
        return size, struct.unpack_from("<Q", subbuf, 16 + size)[0]
    return size, None
