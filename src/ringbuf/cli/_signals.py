"""Signals that end a command: it cleans up first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

__all__ = ["Ended", "ending", "held_back", "next_one"]

_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)  # beside SIGINT, which Python makes an exception of
_HELD_BACK = (*_ENDING, signal.SIGINT, signal.SIGCHLD)


class Ended(BaseException):
    """A signal is to end the command."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Meanwhile these signals raise `Ended`, where they would end the process at once: drafts are removed first.

    One that is ignored, as under nohup, still is; and once is enough.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in _ENDING}
    wanted = [number for number, handler in before.items() if handler == signal.SIG_DFL]

    def end(number, _frame):
        for one in wanted:
            signal.signal(one, signal.SIG_IGN)
        raise Ended(number)

    for number in wanted:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in wanted:
            signal.signal(number, before[number])


@contextlib.contextmanager
def held_back() -> Iterator[set[int | signal.Signals]]:
    """Meanwhile they wait until `next_one` asks for them. Gives the mask of before, for child processes.

    Threads that are made in here hold them back too, so that there is none to which one is delivered.
    Those that have come, and were not asked for, are forgotten at the end: it has come anyway.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        yield before
    finally:
        while next_one() is not None:
            pass
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def next_one() -> signal.struct_siginfo | None:
    """The next that was held back, SIGCHLD among them; None: there is none now.

    It does not wait: where a wait is interrupted and its time is over, as after SIGSTOP and SIGCONT, CPython before
    3.13 returns what lay on its stack, and that would be passed on as a signal.
    """
    return signal.sigtimedwait(_HELD_BACK, 0)
