"""Run a program and record what it traces, and with --kernel what the kernel did meanwhile.

The program finds the channel's file in the environment variable RINGBUF_CHANNEL:
``ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])``. Its exit status is ours.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from ..layout import clock_info
from ..recorder import Recorder
from ..tracer import Tracer

__all__ = ["configure", "run"]

_CHANNEL = "RINGBUF_CHANNEL"


def configure(parser) -> None:
    parser.usage = "ringbuf record [options] -- PROGRAM [ARGUMENT ...]"
    parser.add_argument("-o", "--output", metavar="DIR", default="ringbuf-trace", help="the trace (%(default)s)")
    parser.add_argument("--kernel", metavar="EVENTS", help="kernel events, such as sched:sched_switch,irq; needs root")
    parser.add_argument("--subbuf-size", type=int, default=256 * 1024, help="bytes of a sub-buffer (%(default)s)")
    parser.add_argument("--n-subbufs", type=int, default=4, help="sub-buffers of each CPU (%(default)s)")
    parser.add_argument("program", nargs="+", metavar="PROGRAM", help="what to run, with its arguments")


def run(args) -> int:
    with contextlib.ExitStack() as stack:
        kernel, clock = _kernel(args, stack)
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ringbuf-", dir=_memory()))
        sizes = {"subbuf_size": args.subbuf_size, "n_subbufs": args.n_subbufs}
        name = Path(args.program[0]).name.replace("/", "_")[:48] or "program"
        tracer = stack.enter_context(Tracer(name, mode="discard", path=f"{folder}/channel", clock=clock, **sizes))
        more = kernel.metadata(clock_info(tracer.channel)) if kernel else ""
        with Recorder(tracer.channel, args.output, switch_timer=1.0, more_metadata=more):
            with kernel.recording(args.output, tracer.channel.uuid.bytes) if kernel else contextlib.nullcontext():
                status = _run(args.program, tracer.channel.path)
        result = {"directory": args.output, "exit_status": status, **_counts(tracer.stats(), kernel)}
    _report(result, args.json)
    return status


def _kernel(args, stack):
    """The kernel's side, and the clock that both sides can count."""
    if args.kernel is None:
        return None, "auto"
    from ..tracefs import KernelEvents

    kernel = stack.enter_context(KernelEvents(args.kernel.split(",")))
    return kernel, kernel.channel_clock


def _memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _run(program: list[str], channel: str) -> int:
    """Run the program to its end, which signals from the terminal bring about as without us; its exit status."""
    child = subprocess.Popen(program, env={**os.environ, _CHANNEL: channel})

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
    lost = f", {result['lost']} lost" if result["lost"] else ""
    kernel = f"; kernel: {result['kernel_lost']} events lost" if result.get("kernel_lost") else ""
    print(f"{result['directory']}: {result['records']} records{lost}{kernel}", file=sys.stderr)
