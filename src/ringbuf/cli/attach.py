"""Record a Python process that runs, and that never heard of it: from now on, until Ctrl-C.

From Python 3.14 on by sys.remote_exec, as its user and with the same version of Python here; older ones
must have been started with RINGBUF_LISTEN=1 in the environment. Recording ends with this command; with --flight
the process keeps a flight recorder, until --stop.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import tempfile
import time

from ..ctf.metadata import FORMATS
from ..record import processes
from ..record.recorder import Recorder
from ..record.tracer import Tracer
from . import _buffers, _signals
from ._asking import Refused, ask
from ._memory import memory
from ._numbers import MAX_SIZE, add_choice_of_calls, choice_of_calls, count, pid, seconds, size
from ._output import say

__all__ = ["configure", "run"]

_PERIOD = 0.1


def configure(parser) -> None:
    parser.add_argument("pid", metavar="PID", type=pid, help="the process")
    parser.add_argument("-o", "--output", metavar="DIR", default="ringbuf-trace", help="the trace (%(default)s)")
    parser.add_argument("--format", choices=FORMATS, default="ctf", help="CTF 1.8 or CTF 2 (%(default)s)")
    parser.add_argument(
        "--duration", metavar="SECONDS", type=seconds, help="end then; by default at Ctrl-C, or its end"
    )
    parser.add_argument("--max-size", metavar="SIZE", type=size, help=MAX_SIZE)
    parser.add_argument(
        "--functions", action="store_true", help="calls of functions (this and --logging if none is given)"
    )
    parser.add_argument(
        "--include", metavar="MODULE", action="append", default=[], help="of these modules and packages"
    )
    parser.add_argument("--exclude", metavar="MODULE", action="append", default=[], help="but not of these")
    add_choice_of_calls(parser)
    parser.add_argument("--logging", action="store_true", help="what logging logs")
    parser.add_argument("--flight", action="store_true", help="have it keep a flight recorder, and leave it")
    parser.add_argument("--stop", action="store_true", help="end what was begun in it, and not ended")
    parser.add_argument("--subbuf-size", type=count, default=256 * 1024, help="bytes of a sub-buffer (%(default)s)")
    parser.add_argument("--n-subbufs", type=count, help=f"sub-buffers of each CPU (4; {_buffers.HELP})")


def run(args) -> int:
    words = _words(args)
    with _signals.held_back():
        with tempfile.TemporaryDirectory(prefix="ringbuf-", dir=memory()) as folder:
            if args.stop:
                return _stop(args, folder)
            if args.flight:
                return _start_flight(args, folder, words)
            return _record(args, folder, words)


def _words(args) -> list[str]:
    if args.stop and args.flight:
        raise ValueError("--stop ends what --flight begins: give one of them")
    if (args.include or args.exclude) and not args.functions:
        raise ValueError("--include and --exclude choose among functions: add --functions")
    for pattern in [*args.include, *args.exclude]:
        if not pattern.strip() or "\n" in pattern:
            raise ValueError(f"{pattern!r} is no pattern of names")
    if args.max_size is not None and (args.stop or args.flight):
        raise ValueError("--max-size is of the trace of a recording: not with --flight or --stop")
    chosen = [name for name in ("functions", "logging") if getattr(args, name)] or ["functions", "logging"]
    chosen += [f"{name}={value}" for name, (value,) in choice_of_calls(args).items()]
    chosen += ["retell=1"] if args.max_size is not None else []
    return [*chosen, *(f"include={one}" for one in args.include), *(f"exclude={one}" for one in args.exclude)]


def _stop(args, folder: str) -> int:
    ended = int(ask(args.pid, folder, "stop\n\n"))
    if args.json:
        print(json.dumps({"pid": args.pid, "ended": ended}))
    else:
        say(f"process {args.pid}: {ended or 'no'} recording{'s' * (ended != 1)} ended")
    return 0 if ended else 1


def _start_flight(args, folder: str, words: list[str]) -> int:
    path = ask(args.pid, folder, "\n".join(["flight", "", *words]))
    if args.json:
        print(json.dumps({"pid": args.pid, "path": path}))
    else:
        say(f"process {args.pid} keeps a flight recorder in {path}: see ringbuf snapshot, recover, and attach --stop")
    return 0


def _record(args, folder: str, words: list[str]) -> int:
    path = f"{folder}/channel"
    status = os.stat(f"/proc/{args.pid}") if os.path.exists(f"/proc/{args.pid}") else None
    made_by: dict[str, str | int] = {"procname": _name_of(args.pid), "vpid": args.pid}
    with contextlib.ExitStack() as stack:
        tracer = stack.enter_context(
            Tracer(
                _name_of(args.pid) or "attached",
                mode="discard",
                path=path,
                subbuf_size=args.subbuf_size,
                n_subbufs=_buffers.n_subbufs(args, folder),
            )
        )
        if status is not None and os.geteuid() == 0 and status.st_uid:
            os.chown(path, status.st_uid, status.st_gid)
            os.chown(folder, status.st_uid, status.st_gid)
        recorder = stack.enter_context(
            Recorder(
                tracer.channel, args.output, switch_timer=1.0, max_size=args.max_size, format=args.format,
                made_by=made_by,
            )
        )  # fmt: skip
        try:
            version = ask(args.pid, folder, "\n".join(["start", path, *words]))
        except BaseException:
            recorder.stop()
            _undo(args.output)
            raise
        if not args.json:
            say(f"recording process {args.pid}, to {args.output}: Ctrl-C ends it", sys.stderr)
        is_there = _wait(args.pid, args.duration)
        if is_there:
            with contextlib.suppress(Refused):  # it is about to end
                ask(args.pid, folder, f"stop\n{path}\n")
        recorder.stop()
        stats, rotated = tracer.stats(), recorder.stats()["records_rotated"]
    result = {
        "directory": args.output, "pid": args.pid, "records": stats.records_read - rotated, "rotated": rotated,
        "lost": stats.records_lost, "torn": stats.records_torn, "hints": _hints(args, version, stats, tracer),
    }  # fmt: skip
    if args.json:
        print(json.dumps(result))
        return 0
    more = "".join(f", {result[name]} {name}" for name in ("rotated", "lost", "torn") if result[name])
    say(f"{args.output}: {result['records']} records{more}", sys.stderr)
    for hint in result["hints"]:
        say(hint, sys.stderr)
    return 0


def _hints(args, version: str, stats, tracer) -> list[str]:
    hints = []
    if int(version.partition(".")[2]) < 12:
        hints.append(f"CPython {version}: calls of threads that ran already are not recorded")
    if stats.records_lost:
        hints.append("the buffers were full: more of them (--n-subbufs), or fewer functions (--include, --exclude)")
    return hints


def _undo(directory: str) -> None:
    """A trace of nothing."""
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):
            os.unlink(os.path.join(directory, name))
        os.rmdir(directory)


def _wait(pid: int, duration: float | None) -> bool:
    """Until a signal, the end of the time, or of the process; is it still there?"""
    deadline = None if duration is None else time.monotonic() + duration
    try:
        end = [os.pidfd_open(pid)]
    except OSError:
        end = []
    try:
        while deadline is None or time.monotonic() < deadline:
            left = _PERIOD if deadline is None else min(_PERIOD, max(deadline - time.monotonic(), 0))
            if select.select(end, (), (), left)[0] or not os.path.exists(f"/proc/{pid}"):
                return False
            while (info := _signals.next_one()) is not None:
                if info.si_signo != signal.SIGCHLD:
                    return True
    finally:
        for one in end:
            os.close(one)
    return True


def _name_of(pid: int) -> str:
    """The program's, for the channel."""
    words = processes.command(pid).split()
    name = os.path.basename(next((word for word in words[1:] if not word.startswith("-")), words[0] if words else ""))
    return os.fsencode(name)[:48].decode("utf-8", "ignore")
