"""Hash every file of the Python standard library in worker processes, and trace that.

    python examples/hash_stdlib.py build/demo-trace

Where to look first:

1. `start_worker` and `hash_file` run in the workers, and record typed events;
2. `run` makes the tracer, hands it to the workers, and streams to disk what they record;
3. `report` reads the trace back, and holds it against the counters and babeltrace2.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import time
from collections import Counter
from multiprocessing.context import BaseContext
from pathlib import Path

import ringbuf

NAME = "hash_stdlib"  # of the channel, and so of the stream files


# ---- in the workers ----

file_opened: ringbuf.Event  # these are set in each worker
file_hashed: ringbuf.Event
file_unreadable: ringbuf.Event
root_path: str


def start_worker(tracer: ringbuf.Tracer, root: str) -> None:
    """Runs once in each worker. All of them declare the same events, and share their ids."""
    global file_opened, file_hashed, file_unreadable, root_path
    file_opened = tracer.event("file_opened", path="str", size="u64")
    file_hashed = tracer.event("file_hashed", path="str", size="u64", ns="u64", head="u64", digest="str")
    file_unreadable = tracer.event("file_unreadable", path="str", errno="i32", reason="str")
    root_path = root
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends us


def hash_file(path: str) -> None:
    name = printable(os.path.relpath(path, root_path))
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            file_opened(name, size)
            start = time.perf_counter_ns()
            sha256 = hashlib.sha256()
            while block := file.read(1 << 18):
                sha256.update(block)
    except OSError as error:
        file_unreadable(name, error.errno, error.strerror)
    else:
        elapsed = time.perf_counter_ns() - start
        digest = sha256.digest()
        file_hashed(name, size, elapsed, int.from_bytes(digest[:8], "big"), digest.hex()[:16])


def printable(path: str) -> str:
    """A file name may be any bytes; a str field is UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


# ---- in the parent ----


def files_below(root: str) -> list[str]:
    """All files but pipes and the like; without what pip and Debian install."""
    found: list[str] = []
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in ("site-packages", "dist-packages"))
        found += filter(is_file, (os.path.join(folder, name) for name in sorted(names)))
    return found


def is_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:
        return True  # a link that leads nowhere: let the worker say so


def make_way(directory: Path) -> None:
    """Remove the trace of an earlier run, and nothing else."""
    files = list(directory.iterdir()) if directory.is_dir() else []
    if not files and not directory.is_file():
        return
    try:
        tracer_name = ringbuf.open_trace(directory).env.get("tracer_name")
    except (ringbuf.TraceError, OSError):
        tracer_name = None
    if tracer_name != "ringbuf" or not all(re.fullmatch(rf"metadata|{NAME}_\d+", file.name) for file in files):
        sys.exit(f"{directory} is there already, and is no trace of this program: choose another directory")
    shutil.rmtree(directory)


class Progress:
    """One line that is written over and over on a terminal; a few lines elsewhere."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.period, self.end = (0.1, "") if sys.stdout.isatty() else (5.0, "\n")
        self.next_time = 0.0

    def show(self, done: int, tracer: ringbuf.Tracer, recorder: ringbuf.Recorder) -> None:
        if time.monotonic() < self.next_time and done < self.total:
            return
        self.next_time = time.monotonic() + self.period
        stats = tracer.stats()
        text = f"{done:,} of {self.total:,} files; {stats.records_written:,} events, {stats.records_lost:,} lost; "
        text += f"{size_text(recorder.stats()['bytes'])} on disk"
        print(f"\r{text:<78}" if not self.end else text, end=self.end, flush=True)

    def close(self) -> None:
        print(end="" if self.end else "\n")


def run(directory: Path, root: str, context: BaseContext, workers: int | None) -> ringbuf.Stats:
    paths = files_below(root)
    progress = Progress(len(paths))
    with ringbuf.Tracer(NAME, mode="discard", switch_timer=0.2) as tracer:
        # The tracer goes to the workers like any argument, whatever their start method. They are
        # started before the recorder, because forking a process that has threads is asking for trouble.
        with context.Pool(workers, start_worker, (tracer, root)) as pool:
            with tracer.record(directory) as recorder:
                for done, _ in enumerate(pool.imap_unordered(hash_file, paths, chunksize=8), start=1):
                    progress.show(done, tracer, recorder)
        progress.close()
        return tracer.stats()


# ---- afterwards, from the trace ----


def report(directory: Path, stats: ringbuf.Stats) -> bool:
    """Print what the trace says. False: the counters, or babeltrace2, say otherwise."""
    with ringbuf.open_trace(directory) as trace:
        events = trace.to_numpy()  # a structured array for each event type
        begin, end = trace.time_range or (0, 0)
    total = sum(map(len, events.values()))
    seconds = (end - begin) / 1e9 or 1.0
    size = sum(file.stat().st_size for file in directory.iterdir())
    hashed = events.get("file_hashed", ())

    print_table(events)
    print(f"\n{total:,} events in {seconds:.1f} s: {total / seconds:,.0f} per second")
    print(f"{size_text(size)} of trace: {size / max(total, 1):.0f} bytes per event")
    causes = ("full", "wrap", "big", "nesting", "slots", "disabled")
    lost = {cause: getattr(stats, f"records_lost_{cause}") for cause in causes}
    lost["torn"] = stats.records_torn
    print(f"{stats.records_lost:,} events lost; by cause: " + ", ".join(f"{key} {n:,}" for key, n in lost.items()))
    if len(hashed):
        print(f"\nslowest of {len(hashed):,} files, {size_text(hashed['size'].sum())} in all:")
        for row in hashed[hashed["ns"].argsort()[::-1][:10]]:
            print(f"  {row['ns'] / 1e6:8.2f} ms {size_text(row['size']):>11}  {row['digest']}  {row['path']}")

    written = stats.records_written - stats.records_torn
    print(f"\nevents in the trace {total:,}; counted by the tracer {written:,}", end="")
    judged = babeltrace2_count(directory)
    print(f"; found by babeltrace2 {judged:,}" if judged is not None else " (babeltrace2 is not installed)")
    return total == written and judged in (None, total)


def print_table(events: dict) -> None:
    """Events by type and CPU."""
    counts = {name: Counter(rows["cpu"].tolist()) for name, rows in events.items()}
    print("\nevents  " + "".join(f"{name:>17}" for name in counts))
    for cpu in sorted(set().union(*counts.values())):
        print(f"CPU {cpu:<4}" + "".join(f"{count[cpu]:>17,}" for count in counts.values()))
    print("all     " + "".join(f"{count.total():>17,}" for count in counts.values()))


def babeltrace2_count(directory: Path) -> int | None:
    """How many events babeltrace2, a reader that nobody here wrote, finds; -1: it refuses the trace."""
    if not shutil.which("babeltrace2"):
        return None
    command = ["babeltrace2", str(directory), "--component", "sink.utils.counter"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.findall(r"([\d,]+) Event messages?", done.stdout)
    if done.returncode or not found:
        print(f"\n{done.stderr}", file=sys.stderr)
        return -1
    return int(found[-1].replace(",", ""))  # the last table; it prints one now and then


def size_text(size: float) -> str:
    return f"{size / 1024:,.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):,.1f} MiB"


def main() -> int:
    parser = argparse.ArgumentParser(description="Hash the standard library in worker processes, and trace that.")
    parser.add_argument("directory", type=Path, help="of the trace; one that this program left there is replaced")
    parser.add_argument("--root", default=sysconfig.get_path("stdlib"), help="folder to hash (default: %(default)s)")
    parser.add_argument("--start-method", choices=multiprocessing.get_all_start_methods(), help="of the workers")
    parser.add_argument("--workers", type=int, help="how many (default: one for each CPU)")
    options = parser.parse_args()
    context = multiprocessing.get_context(options.start_method)

    make_way(options.directory)
    options.directory.parent.mkdir(parents=True, exist_ok=True)
    print(f"hashing {options.root} with worker processes ({context.get_start_method()})")
    stats = run(options.directory, options.root, context, options.workers)
    if not report(options.directory, stats):
        print("these should be the same", file=sys.stderr)
        return 1
    print(f"the trace is in {options.directory}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
