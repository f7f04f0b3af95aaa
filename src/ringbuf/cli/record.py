"""Run a program and record what it traces, calls or logs, and what the kernel did meanwhile.

A program that traces finds the channel's file in the environment variable RINGBUF_CHANNEL:
``ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])``. For --functions, --logging and --audit a
Python program need not know of it, nor need its child processes. The exit status is the program's.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from .. import inject
from ..ctf.layout import clock_info
from ..errors import RingbufError
from ..record.recorder import Recorder, check_directory, snapshot
from ..record.tracer import Tracer

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.usage = "ringbuf record [options] -- PROGRAM [ARGUMENT ...]"
    parser.add_argument("-o", "--output", metavar="DIR", default="ringbuf-trace", help="the trace (%(default)s)")
    parser.add_argument(
        "--mode", choices=("discard", "overwrite"), default="discard",
        help="what goes when the buffers are full; overwrite: only the end is written (%(default)s)",
    )  # fmt: skip
    parser.add_argument("--functions", action="store_true", help="calls of Python functions")
    parser.add_argument(
        "--include", metavar="MODULE", action="append", default=[],
        help="of these modules and packages, such as shop or '*'; by default all but the standard library",
    )  # fmt: skip
    parser.add_argument("--exclude", metavar="MODULE", action="append", default=[], help="but not of these")
    parser.add_argument("--logging", action="store_true", help="what Python's logging logs")
    parser.add_argument("--audit", action="store_true", help="Python's audit events: open, import and so on")
    parser.add_argument("--kernel", metavar="EVENTS", help="kernel events, such as sched:sched_switch,irq; needs root")
    parser.add_argument("--subbuf-size", type=int, default=256 * 1024, help="bytes of a sub-buffer (%(default)s)")
    parser.add_argument("--n-subbufs", type=int, default=4, help="sub-buffers of each CPU (%(default)s)")
    parser.add_argument("program", nargs="+", metavar="PROGRAM", help="what to run, with its arguments")


def run(args) -> int:
    if args.kernel is not None and args.mode == "overwrite":
        raise RingbufError("--kernel streams: it goes with --mode discard")
    command = _command(args.program)
    with contextlib.ExitStack() as stack:
        kernel, clock = _kernel(args, stack)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-", dir=_memory()))
        sizes = {"subbuf_size": args.subbuf_size, "n_subbufs": args.n_subbufs}
        name = _name(args.program[0])
        tracer = stack.enter_context(Tracer(name, mode=args.mode, path=f"{folder}/channel", clock=clock, **sizes))
        with _writing(args, tracer.channel, kernel):
            status = _run(command, inject.environment(tracer.channel.path, _what(args)))
        result = {"directory": args.output, "exit_status": status, **_counts(tracer.stats(), kernel)}
        is_unknown = _is_asked(args) and not tracer.channel.schemas()
    _report(result, args.json)
    if is_unknown:
        print("nothing was recorded: does the program run a Python that has ringbuf?", file=sys.stderr)
    return status


def _is_asked(args) -> bool:
    return args.functions or args.logging or args.audit


def _what(args) -> dict:
    functions = {"include": args.include, "exclude": args.exclude} if args.functions else None
    return {"functions": functions, "logging": args.logging, "audit": args.audit}


def _command(program: list[str]) -> list[str]:
    """A .py file is run by this Python. What is no program is told before there is a trace of it."""
    if program[0].endswith(".py") and os.path.isfile(program[0]):
        return [sys.executable, *program]
    if shutil.which(program[0]) is None:
        raise FileNotFoundError(errno.ENOENT, "no such program", program[0])
    return program


def _name(program: str) -> str:
    """Of the channel."""
    name = os.fsencode(Path(program).name)[:48].decode("utf-8", "ignore")
    return name if name not in ("", "..") else "program"


@contextlib.contextmanager
def _writing(args, channel, kernel):
    """Write the trace: while the program runs, or what is left at its end."""
    if args.mode == "overwrite":
        check_directory(args.output)
        yield
        snapshot(channel, args.output)
        return
    more = kernel.metadata(clock_info(channel)) if kernel else ""
    with Recorder(channel, args.output, switch_timer=1.0, more_metadata=more):
        with kernel.recording(args.output, channel.uuid.bytes) if kernel else contextlib.nullcontext():
            yield


def _kernel(args, stack):
    """The kernel's side, and the clock that both sides can count."""
    if args.kernel is None:
        return None, "auto"
    from ..kernel.tracefs import KernelEvents

    kernel = stack.enter_context(KernelEvents(args.kernel.split(",")))
    return kernel, kernel.channel_clock


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _run(program: list[str], environment: dict[str, str]) -> int:
    """Run the program to its end, which signals from the terminal bring about as without us; its exit status."""
    child = subprocess.Popen(program, env=environment)

    def pass_on(number, _frame):
        child.send_signal(number)

    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}  # the terminal has told the program
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, pass_on)
    try:
        status = child.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return status if status >= 0 else 128 - status


def _counts(stats, kernel) -> dict:
    counts = {"records": stats.records_written, "lost": stats.records_lost, "torn": stats.records_torn}
    if kernel:
        counts |= {"kernel_packets": kernel.n_packets, "kernel_lost": kernel.n_lost}
    return counts


def _report(result: dict, as_json: bool) -> None:
    if as_json:
        print(json.dumps(result))
        return
    names = {"lost": "lost", "torn": "torn", "kernel_packets": "kernel packets", "kernel_lost": "kernel events lost"}
    more = "".join(f", {result[key]} {name}" for key, name in names.items() if result.get(key))
    print(f"{result['directory']}: {result['records']} records{more}", file=sys.stderr)
