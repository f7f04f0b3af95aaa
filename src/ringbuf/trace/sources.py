"""What is in a directory that is opened: traces, files of streams, packets, and what cannot be read.

A session of LTTng has a trace for each domain, user or process, and one more directory for
each chunk of a rotation and each snapshot. Those of one trace have its UUID; the metadata of
a later chunk continue those of an earlier one.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from .._decode import Decoder, Packet
from ..ctf import json2, model, tsdl
from ..errors import TraceError
from ..limits import Limits
from ..places import Local, LocalFile, Remote, RemoteFile, place_of

__all__ = ["Damage", "Gap", "Source", "sources_in"]

_CHUNK = 256 * 1024
_HEADER = 4096
_DIRECTORIES = 10_000  # looked into for traces: not the whole machine's
_NOT_STREAMS = ("metadata", "index")

_INDEX_MAGIC = 0xC1F1DCC1
_INDEX_HEADER = struct.Struct(">IIII")
_INDEX_ENTRY = struct.Struct(">QQ")  # the rest is what packets say themselves


@dataclass(frozen=True)
class Damage:
    """A place that cannot be read.

    Attributes
    ----------
    file : str
        Of the trace, as `Packet.file`.
    offset, size : int
        First byte that cannot be read, and how many, up to the next packet that can.
    reason : str
    records : int
        How many records of the same packet were read before it.
    packets : int or None
        How many packets are missing for it; None if nothing tells. The number of records in
        them is not known: no packet says how many it has.
    begin, end : int or None
        The records that are missing are between these times, in nanoseconds since the Unix
        epoch; None if unknown.
    """

    file: str
    offset: int
    size: int
    reason: str
    records: int = 0
    packets: int | None = None
    begin: int | None = None
    end: int | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.size} bytes from byte {self.offset} on: {self.reason}"


@dataclass(frozen=True, eq=False)
class Gap:
    """Bytes between two packets, or at either end of a file, that are no packet."""

    file: str
    offset: int
    size: int
    error: TraceError


@dataclass(frozen=True, eq=False)
class Source:
    """One trace of what was opened.

    Attributes
    ----------
    directories : tuple of str
        Where its streams are, below `Trace.path`; several, if it was rotated or recorded by
        snapshots. ``""`` is the path itself.
    env : mapping of str to (str or int)
    clocks : mapping of str to Clock
    version : int
        Of CTF: 1 or 2.
    name, namespace, uid : str or None
        What CTF 2 identifies it by.
    attributes : mapping
        What the tracer has added to the trace class, in CTF 2.
    """

    directories: tuple[str, ...]
    env: Mapping[str, int | str]
    clocks: Mapping[str, model.Clock]
    version: int
    name: str | None
    namespace: str | None
    uid: str | None
    attributes: Mapping
    place: Local | Remote = field(repr=False)
    decoder: Decoder = field(repr=False)

    def files(self) -> Iterator[tuple[str, list[Packet], list[Gap]]]:
        """Of each file with packets or gaps: the name it has in whatever directory, and these."""
        for directory in self.directories:
            for name in self.place.names(directory):
                path = os.path.join(directory, name)
                if name not in _NOT_STREAMS and not name.startswith(".") and self.place.is_file(path):
                    try:
                        packets, gaps = self._packets_of(path)
                    except FileNotFoundError:
                        continue  # it has left a recording of limited size just now
                    yield name, packets, gaps

    def _packets_of(self, name: str) -> tuple[list[Packet], list[Gap]]:
        packets: list[Packet] = []
        gaps: list[Gap] = []
        offset = 0
        with self.place.open(name) as file:
            size = file.size()
            while offset < size:
                header = file.read_at(offset, _HEADER)
                try:
                    packet = self.decoder.read_packet(header, available=size - offset, file=name, position=offset)
                except TraceError as error:
                    after = self._next_packet(name, file, offset + 1, size)
                    if after == size and file.size() > size:
                        break  # it is being written just now
                    _add_gap(gaps, Gap(name, offset, after - offset, error))
                    offset = after
                else:
                    packets.append(packet)
                    offset += packet.size
        return packets, gaps

    def _next_packet(self, name: str, file: LocalFile | RemoteFile, offset: int, size: int) -> int:
        """Where the next packet begins: as the index says; else judging by the magic number and the trace's UUID."""
        begins = [begin for begin in _indexed(self.place, name) if offset <= begin < size]
        if begins:
            return min(begins)
        pattern = _pattern(self.decoder.model)
        while pattern and offset < size:
            offset = file.next_data(offset, size)
            piece = file.read_at(offset, _CHUNK)
            found = piece.find(pattern)
            if found >= 0:
                return offset + found
            # A pattern that the piece cuts in two begins in the next one.
            offset += max(1, len(piece) - len(pattern) + 1)
        return size


def _add_gap(gaps: list[Gap], gap: Gap) -> None:
    """What looks like a packet in the middle of one and is none makes a gap longer."""
    if gaps and gaps[-1].offset + gaps[-1].size == gap.offset:
        last = gaps.pop()
        gap = Gap(last.file, last.offset, last.size + gap.size, last.error)
    gaps.append(gap)


def _pattern(types: model.Trace) -> bytes:
    """What every packet begins with; nothing if that is not known."""
    members = [member for _, member in types.packet_header.members] if types.packet_header else []
    roles = [getattr(member, "role", None) for member in members[:2]]
    if roles[:1] != ["packet-magic-number"]:
        return b""
    order = "<" if (members[0].byte_order or types.byte_order) == "le" else ">"
    identity = types.uuid if roles[1:] == ["metadata-stream-uuid"] and types.uuid else b""
    return struct.pack(order + "I", model.PACKET_MAGIC) + identity


def _indexed(place: Local | Remote, path: str) -> list[int]:
    """Where the index of LTTng says that packets begin; nothing if there is no index, or another one."""
    folder, name = os.path.split(path)
    try:
        with place.open(os.path.join(folder, "index", name + ".idx")) as file:
            data = file.read_at(0, file.size())
    except OSError:
        return []
    if len(data) < _INDEX_HEADER.size:
        return []
    magic, _, _, length = _INDEX_HEADER.unpack_from(data)
    if magic != _INDEX_MAGIC or length < _INDEX_ENTRY.size:
        return []
    starts = range(_INDEX_HEADER.size, len(data) - length + 1, length)
    return [_INDEX_ENTRY.unpack_from(data, start)[0] for start in starts]


# ---- the traces below a directory ----


def sources_in(path: str, limits: Limits) -> list[Source]:
    """The traces in a directory and below it.

    Raises
    ------
    TraceError
        There is none; or the metadata of one cannot be read.
    """
    place = place_of(path)
    if not place.is_directory():
        raise TraceError(f"{path}: not a directory")
    directories = [""] if place.has("metadata") else _directories_below(place)
    texts = {directory: _metadata(place, directory, limits.metadata_size) for directory in directories}
    groups: list[tuple[str, list[str]]] = []
    # The longest first: those of other chunks are its beginning.
    for directory in sorted(directories, key=lambda one: (-len(texts[one]), one)):
        for whole, members in groups:
            if _continues(whole, texts[directory]):
                members.append(directory)
                break
        else:
            groups.append((texts[directory], [directory]))
    found = [_source(place, text, sorted(members), limits, len(groups) > 1) for text, members in groups]
    return sorted(found, key=lambda source: source.directories)


def _directories_below(place: Local | Remote) -> list[str]:
    found = []
    for count, (directory, files) in enumerate(place.walk()):
        if count == _DIRECTORIES:
            raise TraceError(f"{place.path}: more than {_DIRECTORIES} directories: open the one that has the trace")
        if "metadata" in files:
            found.append(directory)
    if not found:
        raise TraceError(f"{place.path}: there is no file called metadata, neither here nor below")
    return sorted(found)


def _metadata(place: Local | Remote, directory: str, limit: int) -> str:
    name = os.path.join(directory, "metadata")
    path = place.join(name)
    if not place.is_file(name):
        raise TraceError(f"{path}: not a file")  # to open a fifo is to wait for who writes
    with place.open(name) as file:
        data = file.read_at(0, min(limit, file.size()) + 1)
    if len(data) > limit:
        raise TraceError(f"{path}: it has more than {limit} bytes, which limits.metadata_size allows")
    try:
        return tsdl.text_of(data)
    except TraceError as error:
        raise TraceError(f"{path}: {str(error).removeprefix('metadata: ')}") from None


def _continues(whole: str, text: str) -> bool:
    """Whether two metadata are of the same trace: they begin alike, and have its UUID."""
    return whole.startswith(text) and _parse(text).uuid is not None


def _source(place: Local | Remote, text: str, directories: list[str], limits: Limits, is_one_of_many: bool) -> Source:
    try:
        types = _parse(text)
        decoder = Decoder(types, limits)
    except TraceError as error:
        if not is_one_of_many:
            raise
        raise TraceError(f"{place.join(directories[0])}: {error}") from None
    return Source(
        tuple(directories),
        MappingProxyType(types.env),
        MappingProxyType(types.clocks),
        types.version,
        types.name,
        types.namespace,
        types.uid,
        MappingProxyType(types.attributes),
        place,
        decoder,
    )


def _parse(text: str) -> model.Trace:
    return json2.parse(text) if json2.is_json(text) else tsdl.parse(text)
