"""Traces of the dead: what the file of a channel still has when its processes are gone."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .. import client as _client
from .._core import Channel, copy_region, is_region_used, last_words, open_file, read_metrics, recover_files
from .._decode import Decoder
from ..ctf.layout import channel_layout
from ..ctf.metadata import ChannelLayout, channel_metadata, check_format, in_format
from ..ctf.schema import EventSchema
from ..errors import RegionBusyError, RegionError, TraceError
from ..metrics import samples
from ..output import trace_directory
from ..stats import Stats
from ..trace.meanings import Ended
from . import processes
from .last import ended_env
from .recorder import complete

__all__ = ["Damage", "LastWords", "RecoveredStream", "Recovery", "recover"]


@dataclass(frozen=True)
class LastWords:
    """A thread that was recording when its process died.

    Parameters
    ----------
    pid, tid : int
        As the thread itself saw them.
    thread, program : str
        Their names; ``""``: not known.
    last_record : int or None
        Unix time of its newest record, in nanoseconds.
    open_records : int
        It was in the middle of so many.
    """

    pid: int
    tid: int
    thread: str
    program: str
    last_record: int | None
    open_records: int


@dataclass(frozen=True)
class RecoveredStream:
    """What became of one stream.

    Parameters
    ----------
    stream : int
    cpu : int or None
        None: of a global channel.
    packets, records : int
        In the trace.
    damaged : int
        Packets that had to be left out.
    consumed : int
        Packets left out because a reader had them before.
    astray : bool
        The stream's position was damaged: packets were looked for one by one.
    stats : Stats
        The stream's counters, with what the death has torn. They may be damaged themselves.
    """

    stream: int
    cpu: int | None
    packets: int
    records: int
    damaged: int
    consumed: int
    astray: bool
    stats: Stats


@dataclass(frozen=True)
class Damage:
    """A packet that was left out, and why."""

    stream: int
    sequence_number: int
    reason: str


@dataclass(frozen=True)
class Recovery:
    """What `recover` found.

    Parameters
    ----------
    path, directory : str
        Of the file; of the trace.
    name, program, hostname, pid, uuid : str, int
        Of the channel, and of who created it.
    missing : int
        Bytes that the file is too short.
    end : int
        Unix time of the newest record that was begun, in nanoseconds.
    streams : list of RecoveredStream
    producers : list of LastWords
        Who was recording when the end came.
    damage : list of Damage
        Packets that are there and not whole. One that is not there at all is only counted.
    stats : Stats
        The channel's counters, with what the death has torn. They may be damaged themselves.
    """

    path: str
    directory: str
    name: str
    program: str
    hostname: str
    pid: int
    uuid: str
    missing: int
    end: int
    streams: list[RecoveredStream]
    producers: list[LastWords]
    damage: list[Damage]
    stats: Stats

    @property
    def packets(self) -> int:
        """In the trace."""
        return sum(stream.packets for stream in self.streams)

    @property
    def records(self) -> int:
        """In the trace."""
        return sum(stream.records for stream in self.streams)

    @property
    def damaged(self) -> int:
        """Packets left out because they are damaged."""
        return sum(stream.damaged for stream in self.streams)

    @property
    def consumed(self) -> int:
        """Packets left out because a reader had them before."""
        return sum(stream.consumed for stream in self.streams)

    def as_dict(self) -> dict:
        """All of it, as JSON can say it."""
        totals = {name: getattr(self, name) for name in ("packets", "records", "damaged", "consumed")}
        return {**asdict(self), **totals}


def recover(path, directory, *, all: bool = False, force: bool = False, format: str = "ctf") -> Recovery:
    """Write what the file of a channel has to a new CTF trace directory.

    For a channel whose processes are gone, whatever ended them. Packets that are complete are
    in the trace, and of those that were not, every record that was. The trace ends when they
    died. The file is only read, and may be read-only; it can be recovered again.

    Parameters
    ----------
    path : str or os.PathLike
    directory : str or os.PathLike
        Made if missing; its parent must exist, and stream files in it must not.
    all : bool
        Also packets that a reader or recorder has had, as far as they still stand. They are in
        another trace.
    force : bool
        Even if living processes use the file: then what they are in the middle of counts as torn.
    format : {"ctf", "ctf2"}
        Of the trace: CTF 1.8 or CTF 2.

    Returns
    -------
    Recovery

    Raises
    ------
    RegionBusyError
        A living process uses the file: `snapshot` is for that.
    RegionError
        Not a ringbuf region, or of another layout version, byte order or owner, or made by a
        client with a format of its own, or its superblock is damaged. The message says which.
    FileExistsError
        The directory has a trace in it.
    PermissionError
        The directory is somebody else's, or everybody may write in it.
    OSError
        The file cannot be read, or the trace not be written.

    It takes as much memory as the file has data. Thread safety: any thread.
    Source: include/ringbuf/recover.h.
    """
    path = os.fsdecode(path)
    check_format(format)
    with trace_directory(directory) as output:
        channel, missing = _copy(path, force)
        with channel:
            words = last_words(channel)  # before the repair, which settles what they left
            judge = _Judge(_layout(channel, path))
            name = _stream_name(channel)
            end, stats, streams = recover_files(channel, output, name, judge, all)
            counted = samples.sample_channel(output, judge.layout, read_metrics(channel), end, gone=True)
            found = _report(path, output.path, channel, missing, end, stats, streams, words, judge.damage)
            layout = replace(judge.layout, env={**judge.layout.env, **_ended(found.producers)})
            complete(output, name, channel, in_format(channel_metadata(layout) + counted, format))
            output.sync()  # the file may be removed now: `clean` does, once it is marked
            return found


def _check_unused(path: str, fd: int) -> None:
    if is_region_used(fd):
        users = processes.users_of(fd)  # in this PID namespace, as far as we may know
        who = " by process " + ", ".join(str(pid) for pid in users) if users else ""
        raise RegionBusyError(f"{path}: in use{who}: take a snapshot instead, or force it")


def _copy(path: str, force: bool) -> tuple[Channel, int]:
    """A channel over a copy of the file's region."""
    fd = open_file(path, os.O_RDONLY)
    try:
        if not force:
            _check_unused(path, fd)
        copy, missing = copy_region(fd, path)
    finally:
        os.close(fd)
    return Channel._attach(copy, None, None, path), missing


def _layout(channel: Channel, path: str) -> ChannelLayout:
    """As `channel_layout`; events whose declaration is damaged are left out, and so are packets that have some."""
    events: dict[int, EventSchema] = {}
    for schema in channel.schemas():
        try:
            events.setdefault(schema[0], EventSchema(*schema))
        except ValueError:
            continue
    try:
        return channel_layout(channel, holes=True, events=events.values())
    except ValueError as error:
        raise RegionError(f"{path}: the region's superblock is corrupt: {error}") from None


def _ended(words: list[LastWords]) -> dict[str, str]:
    """What the trace says of them: who was recording at the end."""
    return ended_env(Ended(one.pid, one.tid, one.last_record, None, one.open_records, one.thread) for one in words)


def _stream_name(channel: Channel) -> str:
    try:
        return _client.checked_name(channel.name).decode()
    except ValueError:
        return "stream"


class _Judge:
    """Says how many records a packet has, and keeps why one is no packet."""

    def __init__(self, layout: ChannelLayout) -> None:
        self.layout = layout
        self._damage: dict[tuple[int, int], Damage] = {}
        self._decoder = Decoder(layout)

    def __call__(self, data: memoryview, stream: int, sequence_number: int, agrees: bool) -> int:
        try:
            if not agrees:
                raise TraceError("its header is not what the table of packets says")
            records = self._decoder.check_packet(data, self._decoder.read_packet(data))
        except TraceError as error:
            self._damage[stream, sequence_number] = Damage(stream, sequence_number, str(error))
            return -1
        self._damage.pop((stream, sequence_number), None)  # a packet in doubt, at its second try
        return records

    @property
    def damage(self) -> list[Damage]:
        return list(self._damage.values())


def _report(path, directory, channel, missing, end, stats, streams, words, damage) -> Recovery:
    def unix_ns(ticks: int) -> int:
        _, freq, offset_s, offset = channel.clock_parameters
        return offset_s * 10**9 + (offset + ticks) * 10**9 // freq

    created_by = channel.environment
    programs = {pid: name for pid, tid, _, name, *_ in words if pid == tid}
    programs[created_by["vpid"]] = created_by["procname"]
    return Recovery(
        path=path,
        directory=str(Path(directory)),
        name=channel.name,
        program=created_by["procname"],
        hostname=created_by["hostname"],
        pid=created_by["vpid"],
        uuid=str(channel.uuid),
        missing=missing,
        end=unix_ns(end),
        streams=[
            RecoveredStream(stream=stream.index, cpu=stream.cpu, **found)
            for stream, found in zip(channel.streams, streams, strict=True)
        ],
        producers=[
            LastWords(pid, tid, name, programs.get(pid, ""), unix_ns(ticks) if ticks else None, open_records)
            for pid, tid, _, name, ticks, open_records in words
        ],
        damage=damage,
        stats=stats,
    )
