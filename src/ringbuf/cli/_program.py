"""The program that `ringbuf record` runs: its start, its end, and the signals until then."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from collections.abc import Callable

from . import _signals

__all__ = ["run"]

_PERIOD = 0.1  # seconds between looks at the signals; the program's end is noticed at once
_PYTHONS_OWN = (signal.SIGPIPE, signal.SIGXFSZ)  # ignored by Python, which children would inherit


def run(
    program: list[str],
    environment: dict[str, str],
    mask: set[int | signal.Signals],
    made_by: dict[str, str | int],
    after: tuple[float, Callable[[], object]] | None = None,
) -> int:
    """Run the program to its end, within `held_back`; its exit status, 128 + N if signal N has ended it.

    `after`: so many seconds after its start, if it still runs, something is done.
    `made_by`, which the trace tells, gets its process id as ``vpid``.

    A signal that somebody sends us is meant for the program, and passed on. One of the terminal's
    (Ctrl-C, Ctrl-\\, its end) has reached the program already.
    """
    ours = [number for number in _PYTHONS_OWN if signal.getsignal(number) == signal.SIG_IGN]
    pid = os.posix_spawnp(program[0], program, environment, setsigmask=mask, setsigdef=ours)
    made_by["vpid"] = pid
    begin = time.monotonic()
    with contextlib.ExitStack() as stack:
        ends = _descriptor_of(pid, stack)
        while True:
            select.select(ends, (), (), _PERIOD)
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code
            if after is not None and time.monotonic() - begin >= after[0]:
                after[1]()
                after = None
            while (info := _signals.next_one()) is not None:
                if info.si_signo != signal.SIGCHLD and info.si_code <= 0:  # as SI_USER is
                    os.kill(pid, info.si_signo)


def _descriptor_of(pid: int, stack: contextlib.ExitStack) -> list[int]:
    """Readable when the process has ended; none where the kernel has no such descriptors."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return []
    stack.callback(os.close, descriptor)
    return [descriptor]
