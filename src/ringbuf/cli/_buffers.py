"""How large `ringbuf record` makes its buffers, and which option would have kept what was lost."""

from __future__ import annotations

import os
import shutil

from ..texts import printable

__all__ = ["HELP", "hints", "n_subbufs", "spares_hint"]

#: Bytes of a CPU's buffers for --functions: what it records in a second of nothing but calls.
_SECOND_OF_CALLS = 128 << 20
_SHARE = 4  # of the memory that is free, all CPUs take one such part at most
HELP = "with --functions as many as a second of calls takes, 128 MiB, but a fourth of the free memory at most"


def n_subbufs(args, folder: str) -> int:
    """Sub-buffers of each CPU, for buffers in this folder."""
    if args.n_subbufs is not None:
        return args.n_subbufs
    if not args.functions or args.subbuf_size <= 0:
        return 4
    room = min(_SECOND_OF_CALLS, _free(folder) // _SHARE // len(os.sched_getaffinity(0)))
    wanted = max(4, room // args.subbuf_size)
    return 1 << min(wanted.bit_length() - 1, 14)


def _free(folder: str) -> int:
    """Bytes, where the files are and in memory."""
    with open("/proc/meminfo") as file:
        memory = next((int(line.split()[1]) << 10 for line in file if line.startswith("MemAvailable:")), 0)
    return min(shutil.disk_usage(folder).free, memory)


def spares_hint(stats, channel) -> str | None:
    """What a channel in overwrite mode has lost because producers were paused."""
    if channel.mode != "overwrite" or not stats.records_lost_wrap:
        return None
    return (
        f"{stats.records_lost_wrap} records lost because more threads were paused in the middle of a record than a "
        f"stream has spares for ({channel.n_spares})"
    )


def hints(stats, channel, args) -> list[str]:
    """A line for each cause of losses."""
    found = []
    size = f"{channel.n_subbufs * channel.subbuf_size >> 10} KiB for each CPU"
    larger = f"--n-subbufs {channel.n_subbufs * 4}"
    paused = spares_hint(stats, channel)
    if paused:
        found.append(f"{paused}: --n-spares {max(8, channel.n_spares * 2)} has more")
    elif stats.records_lost_full or stats.records_lost_wrap:
        lost = stats.records_lost_full + stats.records_lost_wrap
        keep = f"{larger} makes them larger" if args.block else f"--block waits instead, {larger} makes them larger"
        found.append(f"{lost} records lost because the buffers ({size}) were full: {keep}")
    if args.mode == "overwrite" and stats.records_overrun:
        found.append(f"only the end was kept: {larger} keeps more of it than the {size} did")
    if stats.records_lost_big:
        found.append(
            f"{stats.records_lost_big} records lost because each is larger than a sub-buffer: "
            f"--subbuf-size {channel.subbuf_size * 4} has room for larger ones"
        )
    if stats.records_lost_memory:
        found.append(
            f"{stats.records_lost_memory} records lost because {printable(channel.path)} has no room for the buffers "
            f"({size}): make room there, or --n-subbufs smaller"
        )
    if stats.records_lost_slots:
        found.append(
            f"{stats.records_lost_slots} records lost because too many threads recorded: "
            f"--n-producers {args.n_producers * 4} has places for more"
        )
    return found
