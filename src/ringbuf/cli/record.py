"""Run a program and record what it traces, calls or logs, and what the kernel did meanwhile.

A program that traces finds the channel's file in the environment variable RINGBUF_CHANNEL:
``ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])``. For --functions, --logging and --audit a
Python program need not know of it, nor need its child processes. The exit status is the program's.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from ..ctf.layout import clock_info
from ..ctf.metadata import FORMATS
from ..inject.environment import environment
from ..output import own_directory, trace_directory
from ..record import processes
from ..record.recorder import Recorder, write_snapshot
from ..record.tracer import Tracer
from ..watch.rules import triggers_of
from . import _buffers, _program, _signals
from ._memory import memory
from ._notes import Note, Notes
from ._numbers import MAX_SIZE, add_choice_of_calls, choice_of_calls, count, seconds, size
from ._output import say

__all__ = ["configure", "run"]


_GRACE = 0.5  # seconds that child processes have to end after the program
_PATIENCE = 60.0  # seconds that a record waits for room with --block, if it cannot see whether we live


def configure(parser) -> None:
    parser.usage = "ringbuf record [options] -- PROGRAM [ARGUMENT ...]"
    parser.add_argument("-o", "--output", metavar="DIR", default="ringbuf-trace", help="the trace (%(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="ctf", help="CTF 1.8 or CTF 2 (%(default)s)")
    parser.add_argument(
        "--mode", choices=("discard", "overwrite"), default="discard",
        help="what goes when the buffers are full; overwrite: only the end is written (%(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--block", action="store_true", help="when the buffers are full, the program waits: nothing goes"
    )
    parser.add_argument(
        "--duration", metavar="SECONDS", type=seconds, help="record so long; the program runs on to its end"
    )
    parser.add_argument("--max-size", metavar="SIZE", type=size, help=MAX_SIZE)
    parser.add_argument("--functions", action="store_true", help="calls of Python functions")
    parser.add_argument("--c-functions", action="store_true", help="and what those call of C, such as len")
    parser.add_argument(
        "--include", metavar="MODULE", action="append", default=[],
        help="of these modules and packages, such as shop or '*'; by default all but the standard library",
    )  # fmt: skip
    parser.add_argument("--exclude", metavar="MODULE", action="append", default=[], help="but not of these")
    add_choice_of_calls(parser)
    parser.add_argument("--logging", action="store_true", help="what Python's logging logs")
    parser.add_argument(
        "--audit", metavar="EVENT", action="append", nargs="?",
        help="Python's audit events, such as open or 'socket.*'; by default all but what is of no interest",
    )  # fmt: skip
    parser.add_argument("--gc", action="store_true", help="runs of Python's garbage collector")
    parser.add_argument("--exceptions", action="store_true", help="exceptions as they are raised; Python 3.12 or later")
    parser.add_argument(
        "--snapshot-on", metavar="TRIGGERS", action="append", default=[],
        help="with --mode overwrite, also what the buffers hold when something happens, such as exception,signal=USR2: "
        "to DIR-snapshots (docs/flight.md)",
    )  # fmt: skip
    parser.add_argument("--kernel", metavar="EVENTS", help="kernel events, such as sched:sched_switch,irq; needs root")
    parser.add_argument("--subbuf-size", type=count, default=256 * 1024, help="bytes of a sub-buffer (%(default)s)")
    parser.add_argument("--n-subbufs", type=count, help=f"sub-buffers of each CPU (4; {_buffers.HELP})")
    parser.add_argument(
        "--n-spares", type=count,
        help="sub-buffers of each CPU for those that paused threads are in (8; overwrite mode)",
    )  # fmt: skip
    parser.add_argument("--n-producers", type=count, default=1024, help="threads that record at one time (%(default)s)")
    parser.add_argument("program", nargs=argparse.REMAINDER, metavar="PROGRAM", help="what to run, with its arguments")


def run(args) -> int:
    what = _what(args)
    command = _command(_checked(args))
    with contextlib.ExitStack() as stack:
        mask = stack.enter_context(_signals.held_back())  # first: they come when everything is written and removed
        kernel, clock = _kernel(args, stack)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-", dir=memory()))
        tracer = stack.enter_context(_tracer(args, command, f"{folder}/channel", clock))
        notes = stack.enter_context(Notes())
        failures: list[OSError] = []
        made_by: dict[str, str | int] = {"procname": _name(command)}
        after = None if args.duration is None else (args.duration, tracer.channel.disable)
        with _writing(args, tracer.channel, kernel, failures, made_by) as written:
            status = _program.run(command, environment(tracer.channel.path, what, notes.address), mask, made_by, after)
            tracer.channel.enable()
            found = [*notes.stop(), *_outliving(tracer.channel)]
            _tell(tracer, found)
        counts = _counts(args, tracer.stats(), kernel, written, failures)
        result = {"directory": args.output, "exit_status": status, **counts}
        result["not_recorded"] = [note.as_dict() for note in found]
        result["hints"] = _buffers.hints(tracer.stats(), tracer.channel, args)
        is_unknown = what and not tracer.channel.schemas()
    _report(result, args.json)
    for error in failures:
        print(f"ringbuf record: {error.filename}: {error.strerror}", file=sys.stderr)
    if is_unknown:
        print("nothing was recorded: does the program run a Python that has ringbuf?", file=sys.stderr)
    return status


def _checked(args) -> list[str]:
    """The program; ValueError: the options do not go together."""
    has_dashes = args.program[:1] == ["--"]
    program = args.program[has_dashes:]
    taken = next((one for one in args.audit or () if one is not None and shutil.which(one)), None)
    hint = f"--audit took {taken!r} for an event"
    if not program:
        more = f": {hint}, put -- before the program" if taken else ""
        raise ValueError(f"there is no program to run{more} (ringbuf record [options] -- PROGRAM [ARGUMENT ...])")
    if taken and not has_dashes and shutil.which(program[0]) is None and not program[0].startswith("-"):
        raise ValueError(f"{hint}: put -- before the program")
    if program[0].startswith("-"):
        raise ValueError(f"there is no option {program[0]}; see ringbuf record --help")
    if (args.include or args.exclude) and not (args.functions or args.exceptions):
        raise ValueError("--include and --exclude choose among functions: add --functions (or --exceptions)")
    choice_of_calls(args)
    if args.c_functions and not args.functions:
        raise ValueError("--c-functions is about what functions call: add --functions")
    if args.max_size is not None and (args.kernel is not None or args.mode == "overwrite"):
        other = "--kernel streams more" if args.kernel is not None else "--mode overwrite is limited by its buffers"
        raise ValueError(f"--max-size is of a recording's own files: {other}")
    if args.mode == "overwrite" and (args.kernel is not None or args.block):
        raise ValueError(f"{'--block waits' if args.block else '--kernel streams'}: it goes with --mode discard")
    if args.snapshot_on:
        triggers_of(args.snapshot_on)
        if args.mode != "overwrite":
            raise ValueError("--snapshot-on writes what is left in the buffers: it goes with --mode overwrite")
    for pattern in [*args.include, *args.exclude, *filter(None, args.audit or ())]:
        if not pattern.strip() or "\n" in pattern:
            raise ValueError(f"{pattern!r} is no pattern of names")
    return program


def _what(args) -> dict[str, list[str]]:
    """As `inject.environment.environment` takes it."""
    what: dict[str, list[str]] = {}
    if args.functions:
        what["functions"] = []
        what |= {"c-functions": []} if args.c_functions else {}
        what |= choice_of_calls(args)
        what |= {"retell": []} if args.max_size is not None else {}
    if args.functions or args.exceptions:
        what |= {"include": args.include, "exclude": args.exclude}
    what |= {name: [] for name in ("logging", "gc", "exceptions") if getattr(args, name)}
    if args.snapshot_on:
        what |= {"watch": args.snapshot_on, "watch-directory": [os.path.abspath(f"{args.output}-snapshots")]}
    if args.audit is not None:
        what["audit"] = [pattern for pattern in args.audit if pattern is not None]
    return {name: value for name, value in what.items() if value or name not in ("include", "exclude")}


def _tracer(args, command: list[str], path: str, clock) -> Tracer:
    return Tracer(
        _name(command), mode=args.mode, path=path, clock=clock, subbuf_size=args.subbuf_size,
        n_subbufs=_buffers.n_subbufs(args, os.path.dirname(path)), n_producers=args.n_producers,
        n_spares=args.n_spares, blocking_timeout=_PATIENCE if args.block else 0.0,
    )  # fmt: skip


def _command(program: list[str]) -> list[str]:
    """A .py file is run by this Python. What is no program is told before there is a trace of it."""
    if program[0].endswith(".py") and os.path.isfile(program[0]):
        return [sys.executable, *program]
    if shutil.which(program[0]) is None:
        raise FileNotFoundError(errno.ENOENT, "no such program", program[0])
    return program


def _name(command: list[str]) -> str:
    """Of the channel: the program's."""
    program = command[1] if command[0] == sys.executable and len(command) > 1 else command[0]
    name = os.fsencode(Path(program).name)[:48].decode("utf-8", "ignore")
    return name if name not in ("", ".", "..") else "program"


@contextlib.contextmanager
def _writing(args, channel, kernel, failures: list[OSError], made_by: dict[str, str | int]):
    """Write the trace: while the program runs, or what is left at its end. Gives what became of it, at the end."""
    written: dict[str, int] = {}
    if args.mode == "overwrite":
        with trace_directory(args.output) as output:
            yield written
            with _noted(failures):
                written |= write_snapshot(channel, output, format=args.format, made_by=made_by)
            if failures:
                output.undo()
        return
    more = kernel.metadata(clock_info(channel)) if kernel else ""
    with contextlib.ExitStack() as stack:
        recorder = Recorder(
            channel, args.output, switch_timer=1.0, max_size=args.max_size, format=args.format, more_metadata=more,
            made_by=made_by,
        )  # fmt: skip
        stack.enter_context(recorder)
        if kernel:
            output = stack.enter_context(own_directory(args.output))
            stack.enter_context(kernel.recording(output, channel.uuid.bytes))
        yield written
        with _noted(failures):
            stack.close()
        written["rotated"] = recorder.stats()["records_rotated"]


@contextlib.contextmanager
def _noted(failures: list[OSError]):
    """The program has run: its exit status and the counts are worth more than an exception."""
    try:
        yield
    except OSError as error:
        failures.append(error)


def _outliving(channel) -> list[Note]:
    """Processes that record when the program has ended."""
    deadline = time.monotonic() + _GRACE
    while True:
        pids = [pid for pid in processes.users_of(channel.fileno()) if pid != os.getpid()]
        if not pids or time.monotonic() > deadline:
            return [Note(pid, processes.command(pid), "it outlives the recording") for pid in pids]
        time.sleep(0.02)


def _tell(tracer: Tracer, notes: list[Note]) -> None:
    """In the trace too."""
    if notes:
        event = tracer.event("not_recorded", pid="i32", program="str", why="str")
        for note in notes:
            event(note.pid, note.program, note.why)


def _kernel(args, stack):
    """The kernel's side, and the clock that both sides can count."""
    if args.kernel is None:
        return None, "auto"
    from ..kernel.tracefs import KernelEvents

    kernel = stack.enter_context(KernelEvents(args.kernel.split(",")))
    return kernel, kernel.channel_clock


def _counts(args, stats, kernel, written: dict[str, int], failures: list[OSError]) -> dict:
    lost = stats.records_lost - stats.records_lost_disabled  # which --duration does not want
    counts = {"records": stats.records_written, "lost": lost, "torn": stats.records_torn}
    if args.mode == "overwrite" and written:
        counts |= {"records": written["records"], "overwritten": stats.records_overrun}
    elif failures:
        counts |= {"records": stats.records_read, "unwritten": stats.records_unread}
    if written.get("rotated"):
        counts |= {"records": counts["records"] - written["rotated"], "rotated": written["rotated"]}
    if kernel:
        counts |= {"kernel_packets": kernel.n_packets, "kernel_lost": kernel.n_lost}
    return counts


_NAMES = {
    "overwritten": "overwritten", "rotated": "before them left for --max-size",
    "lost": "lost", "torn": "torn", "unwritten": "could not be written",
    "kernel_packets": "kernel packets",
    "kernel_lost": "kernel events lost",
}  # fmt: skip


def _report(result: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    more = "".join(f", {result[key]} {name}" for key, name in _NAMES.items() if result.get(key))
    say(f"{result['directory']}: {result['records']} records{more}", sys.stderr)
    for hint in result["hints"]:
        print(hint, file=sys.stderr)
    for note in result["not_recorded"]:
        say(f"not recorded: {Note(**note)}", sys.stderr)
