from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, final, overload

import numpy
from typing_extensions import Buffer  # collections.abc has it from 3.12 on

from .ctf import model as _model
from .ctf.metadata import ChannelLayout
from .limits import Limits

__all__ = [
    "Decoder",
    "FileMap",
    "Joiner",
    "KernelPackets",
    "Levels",
    "Marks",
    "Packet",
    "Page",
    "Printer",
    "RECORD",
    "Record",
    "Rows",
    "Table",
    "empty_rows",
    "merged",
    "merged_rows",
    "packed_rows",
    "plain_rows",
    "record_at",
]

RECORD: int

@final
class Packet:
    file: str | None
    offset: int
    size: int
    content_size: int
    begin: int | None
    end: int | None
    begin_ticks: int | None
    end_ticks: int | None
    sequence_number: int | None
    events_discarded: int | None
    cpu: int | None
    stream_id: int
    stream_instance_id: int | None
    context: dict[str, Any]

@final
class Record:
    cpu: int | None
    @property
    def ticks(self) -> int | None: ...
    @property
    def time_ns(self) -> int | None: ...
    @property
    def timestamp(self) -> int | None: ...
    @property
    def name(self) -> str: ...
    @property
    def event_id(self) -> int: ...
    @property
    def contexts(self) -> dict[str, Any]: ...
    @property
    def fields(self) -> dict[str, Any]: ...
    @property
    def payload(self) -> bytes: ...

@final
class Decoder:
    model: _model.Trace
    limits: Limits
    def __init__(self, source: ChannelLayout | _model.Trace, limits: Limits = ...) -> None: ...
    @property
    def event_names(self) -> list[str]: ...
    def event_indexes(self, name: str) -> list[int]: ...
    def read_packet(
        self,
        buffer: Buffer,
        offset: int = 0,
        *,
        available: int | None = None,
        file: str | None = None,
        position: int | None = None,
    ) -> Packet: ...
    def packets(self, buffer: Buffer) -> Iterator[Packet]: ...
    def records(self, buffer: Buffer, cpu: int | None = None) -> Iterator[Record]: ...
    def packet_records(
        self,
        buffer: Buffer,
        packet: Packet,
        *,
        offset: int | None = None,
        cpu: int | None = None,
        in_ns: bool = False,
        check: bool = True,
    ) -> Iterator[Record]: ...
    def new_counts(self) -> array[int]: ...
    def count_events(
        self, buffer: Buffer, packet: Packet, counts: array[int], *, offset: int | None = None
    ) -> None: ...
    def check_packet(self, buffer: Buffer, packet: Packet, *, offset: int | None = None) -> int: ...
    def damage_in(
        self, buffer: Buffer, packet: Packet, *, offset: int | None = None
    ) -> tuple[int, int, int | None]: ...
    def dtype(self, index: int) -> numpy.dtype[Any]: ...
    def least_size(self, index: int) -> int | None: ...
    def to_numpy(
        self, buffer: Buffer, name: str | None = None, cpu: int | None = None
    ) -> numpy.ndarray[Any, Any] | dict[str, numpy.ndarray[Any, Any]]: ...
    def rows_in_place(self, buffer: Buffer, packet: Packet, index: int) -> numpy.ndarray[Any, Any] | None: ...
    def members_of(self, node: int) -> list[int]: ...
    def table(self, index: int) -> Table: ...
    def fill(
        self,
        buffer: Buffer,
        packet: Packet,
        tables: Iterable[Table],
        *,
        offset: int | None = None,
        cpu: int | None = None,
    ) -> int: ...

@final
class Table:
    columns: Any
    has_objects: bool
    index: int
    def __len__(self) -> int: ...
    def take(self) -> numpy.ndarray[Any, Any] | Rows: ...

@final
class Rows:
    cells: numpy.ndarray[Any, Any]
    def __init__(self, cells: numpy.ndarray[Any, Any], heaps: list[bytes], columns: Any) -> None: ...
    @staticmethod
    def joined(pieces: Sequence[Rows], cells: numpy.ndarray[Any, Any]) -> Rows: ...
    def __len__(self) -> int: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    @property
    def dtype(self) -> numpy.dtype[Any]: ...
    def to_numpy(self) -> numpy.ndarray[Any, Any]: ...
    def copy_to(self, rows: numpy.ndarray[Any, Any]) -> None: ...
    def varies(self, name: str) -> bool: ...
    def is_text(self, name: str) -> bool: ...
    def elements(self, name: str) -> str | None: ...
    def values(self, name: str) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]: ...
    def text(self, name: str) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]] | None: ...
    def numbers(self, name: str) -> tuple[numpy.ndarray[Any, Any], numpy.ndarray[Any, Any]]: ...
    def fixed_text(self, name: str) -> numpy.ndarray[Any, Any] | None: ...

@final
class FileMap:
    def __init__(self, fd: int, size: int) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

@final
class KernelPackets:
    unknown: int
    def __init__(self, uuid: bytes, formats: Mapping[int, Sequence[tuple[int, int, int]]]) -> None: ...
    def packet(
        self,
        subbuf: Buffer,
        begin: int,
        end: int,
        *,
        cpu: int,
        sequence_number: int = 0,
        events_discarded: int = 0,
    ) -> bytes: ...

@final
class _Lane:
    index: int
    def __len__(self) -> int: ...
    def take(self) -> numpy.ndarray[Any, Any]: ...

@final
class Printer:
    def __init__(
        self,
        decoder: Decoder,
        origin: str,
        *,
        names: Container[str] | None = None,
        begin: int = ...,
        end: int = ...,
    ) -> None: ...
    def fill(self, buffer: Buffer, packet: Packet, lane: _Lane, *, offset: int | None = None) -> int: ...

@final
class Page:
    lanes: tuple[_Lane, ...]
    def __init__(self, n_lanes: int) -> None: ...
    def lines(self, rows: numpy.ndarray[Any, Any]) -> str: ...

@final
class _MarkLane:
    def __len__(self) -> int: ...
    def take(self) -> numpy.ndarray[Any, Any]: ...

@final
class Marks:
    lanes: tuple[_MarkLane, ...]
    def __init__(
        self,
        decoder: Decoder,
        kinds: Mapping[int, tuple[str, int]],
        n_lanes: int,
        pid: int | None = None,
        first: Marks | None = None,
    ) -> None: ...
    def fill(
        self, buffer: Buffer, packet: Packet, lane: _MarkLane, number: int, *, offset: int | None = None
    ) -> int: ...
    @property
    def texts(self) -> list[str]: ...

@final
class Joiner:
    def __init__(
        self,
        begin: int,
        losses: tuple[int, int] | None,
        n_names: int,
        codes: Mapping[tuple[int, int], tuple[int, int]],
    ) -> None: ...
    def join(self, marks: numpy.ndarray[Any, Any]) -> None: ...
    def finish(self, end: int, ended: Sequence[tuple[int, int]] = ...) -> None: ...
    def __len__(self) -> int: ...
    def take(self) -> numpy.ndarray[Any, Any]: ...
    def unknown(self, first: int) -> list[tuple[int, int]]: ...
    def paths(self, first: int) -> numpy.ndarray[Any, Any]: ...
    def threads(self, texts: Sequence[str]) -> list[tuple[int, int, str, str, int, int, int]]: ...

@final
class Levels:
    def __init__(self, begin: int, end: int, limit: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def width(self) -> int: ...
    def add(self, lanes: Buffer, begins: Buffer, durations: Buffer, selfs: Buffer, whats: Buffer) -> None: ...
    def cells(self) -> numpy.ndarray[Any, Any]: ...

def empty_rows(count: int, dtype: numpy.dtype[Any]) -> numpy.ndarray[Any, Any]: ...
def merged(iterators: Iterable[Iterator[Record]]) -> Iterator[Record]: ...
def plain_rows(rows: numpy.ndarray[Any, Any] | Rows) -> numpy.ndarray[Any, Any]: ...
@overload
def merged_rows(lanes: Sequence[Sequence[numpy.ndarray[Any, Any]]]) -> numpy.ndarray[Any, Any]: ...
@overload
def merged_rows(lanes: Sequence[Sequence[Rows]]) -> Rows: ...
def packed_rows(
    tracks: Buffer, begins: Buffer, ends: Buffer, wanted: Buffer, max_rows: int
) -> numpy.ndarray[Any, Any]: ...
def record_at(decoder: Decoder, buffer: Buffer, packet: Packet, bit: int, *, offset: int | None = None) -> Record: ...
