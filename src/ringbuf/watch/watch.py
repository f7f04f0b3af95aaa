"""Watch: takes a snapshot when something happens, and says why; not too often, and not too many."""

import _thread
import os
import sys
import time

from .._core import Channel, Durations, Tally, glob_matches, watch_calls, watch_spans
from ..errors import ReaderBusyError
from ..record.ends import AtEnd
from . import hooks, rules, stacks
from .watchdog import PERIODIC, Watchdog

__all__ = ["OPTIONS", "Watch", "from_environment"]

_PATIENCE = 5.0  # seconds that the end of the process waits for a snapshot that is being written
_TRIES, _PAUSE = 40, 0.05  # while another snapshot, of whatever process, is being taken
_LONG = 2000  # characters of what a trigger tells

_watches: "list[Watch]" = []  # those that are open


class Watch:
    """Snapshots of a channel, each when a trigger fires. From `Tracer.watch`; a context manager.

    Nothing of it is in the program's way: a trigger costs its thread the time to note what goes on; the
    snapshot is written by a thread of its own, one at a time. The channel's buffers are those of all its
    processes, and so are its snapshots.

    Thread safety: any thread, and signal handlers. In forked children it goes on.
    """

    def __init__(self, tracer, directory, on, *, last, at_most, keep, max_size) -> None:
        from .keeping import Keeper

        self._channel: Channel = tracer.channel
        if self._channel.mode != "overwrite":
            raise ValueError("a channel in discard mode keeps its oldest records: watch one with mode='overwrite'")
        self.triggers = rules.triggers_of(on)
        self._last = None if last is None else rules.seconds_of(last, "last")
        self._rate = rules.rate_of(at_most)
        if keep is not None and not (isinstance(keep, int) and keep > 0):
            raise ValueError(f"keep: how many snapshots stay, 1 or more, not {keep!r}")
        self._keeper = Keeper(directory, keep, None if max_size is None else rules.size_of(max_size, "max_size"))
        self._event = tracer.event("trigger", kind="str", what="str", skipped="u64")
        self._fired, self._taken, self._skipped, self._failed = Tally(), Tally(), Tally(), Tally()
        self.error: "Exception | None" = None
        self._recent: "list[float]" = []  # when the latest were taken here
        self._pid = 0
        self._is_told = False  # that an exception ends this process
        self._undo: list = []
        self._stop_listening = None
        self._closed = False
        self._busy = _thread.allocate_lock()
        self._watchdog: "Watchdog | None" = None
        self._begin_process()
        try:
            self._set()
        except BaseException:
            self.close()
            raise
        _watches.append(self)

    # ---- what is waited for ----

    def _set(self) -> None:
        by_kind: "dict[str, list]" = {}
        for one in self.triggers:
            by_kind.setdefault(one.kind, []).append(one.value)
        for number in by_kind.get("signal", ()):
            self._undo.append(hooks.on_signal(self, number))
        if "exception" in by_kind:
            self._stop_listening = hooks.on_exceptions(self)
            self._undo.append(self._stop_listening)
        if "log" in by_kind:
            self._undo.append(hooks.on_log_records(self, min(by_kind["log"])))
        if "over" in by_kind:
            self._limits = by_kind["over"]
            watch_spans(self._channel, Durations(self._limit_of, self._tell_slow))
            self._undo.append(lambda: watch_spans(self._channel, None))
            if any(one.is_of_calls for one in self._limits):
                watch_calls(self._channel, Durations(self._limit_of_calls, self._tell_slow))
                self._undo.append(lambda: watch_calls(self._channel, None))
        if any(kind in by_kind for kind in PERIODIC):
            self._watchdog = Watchdog(self, {kind: by_kind[kind][0] for kind in PERIODIC if kind in by_kind})
            self._watchdog.start()

    def _limit_of(self, name: str):
        """The last that fits: what is said later is more special."""
        fitting = [one for one in self._limits if glob_matches(one.pattern, name)]
        return fitting[-1].as_rule() if fitting else None

    def _limit_of_calls(self, name: str):
        """The same of a call."""
        fitting = [one for one in self._limits if one.is_of_calls and glob_matches(one.pattern, name)]
        return fitting[-1].as_rule() if fitting else None

    def _tell_slow(self, name: str, ns: int) -> None:
        self.fire("over", f"{name} took {ns / 1e9:.6f} s")

    def beat(self) -> None:
        """The heart beats: for ``heartbeat=SECONDS``, from the first call on."""
        if self._watchdog is not None:
            self._watchdog.beat()

    # ---- a trigger fires ----

    def trigger(self, what: str = "") -> bool:
        """Take a snapshot now, as a trigger would; `what` says why. False: skipped, and counted."""
        return self.fire("call", what)

    def fire(self, kind: str, what: str, *, error=None, thread: int = 0, loops=()) -> bool:
        """For triggers: note what goes on here, and have it written. Raises nothing."""
        if self._closed or self._channel.closed:
            return False
        self._fired.add()
        self._event(kind, what[:_LONG], self._skipped.value)
        if not self._busy.acquire(False):
            self._skipped.add()
            return False
        is_on_its_way = False
        try:
            if self._is_too_often():
                self._skipped.add()
                return False
            self._begin_process()
            text = self._text(kind, what[:_LONG], error, thread, loops)
            is_on_its_way = True
            self._start(kind, text)
        except Exception as failure:
            self._fail(failure)
            return False
        finally:
            if not is_on_its_way:
                self._busy.release()
        return True

    def _is_too_often(self) -> bool:
        now = time.monotonic()
        self._recent = [one for one in self._recent if now - one < self._rate[1]]
        if len(self._recent) >= self._rate[0]:
            return True
        self._recent.append(now)
        return False

    def _text(self, kind: str, what: str, error, thread: int, loops) -> str:
        now = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06}Z"
        told = "" if error is None else stacks.of_error(error) + "\n"
        head = (
            f"trigger: {kind}", f"what: {what.splitlines()[0] if what else ''}", f"when: {moment}",
            f"process: {os.getpid()} {' '.join(getattr(sys, 'orig_argv', sys.argv))[:500]}",
            f"skipped: {self._skipped.value}",
        )  # fmt: skip
        known = loops or (self._watchdog.loops() if self._watchdog is not None else ())
        more = [what + "\n"] if len(what.splitlines()) > 1 else []
        return "\n".join((*head, "", *more, told + stacks.of_threads(thread, known))) + "\n"

    def _start(self, kind: str, text: str) -> None:
        try:
            # Not one of threading's: the program does not meet it, nor waits for it.
            _thread.start_new_thread(self._write, (kind, text))
        except RuntimeError:  # there can be no more threads, or the interpreter ends
            self._write(kind, text)

    def _write(self, kind: str, text: str) -> None:
        try:
            if self._keeper.take(self._snapshot, self._channel.name, kind, text, self._rate) is None:
                self._skipped.add()
            else:
                self._taken.add()
        except BaseException as error:
            self._fail(error)
        finally:
            self._busy.release()

    def _fail(self, error) -> None:
        self._failed.add()
        self.error = error

    def _snapshot(self, path: str) -> dict:
        import warnings

        from ..record.recorder import snapshot

        for attempt in range(_TRIES):
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what they say is in the trace, and not to be printed here
                    return snapshot(self._channel, path, last=self._last)
            except ReaderBusyError:
                if attempt == _TRIES - 1:
                    raise
                time.sleep(_PAUSE)
        raise AssertionError("unreachable")

    # ---- what has become of it ----

    def stats(self) -> "dict[str, int]":
        """Counters of this process: triggers that ``fired``; snapshots ``taken``, ``skipped`` (too many in their time,
        here or in another process, or one was being taken), ``failed`` (see `error`)."""
        return {
            "fired": self._fired.value, "taken": self._taken.value, "skipped": self._skipped.value,
            "failed": self._failed.value,
        }  # fmt: skip

    def snapshots(self) -> "list[str]":
        """Paths of the snapshots that are there, oldest first; of all processes. Beside each is PATH.txt."""
        return [os.path.join(self._keeper.path, name) for name in self._keeper.names()]

    def wait(self, timeout: float = _PATIENCE) -> bool:
        """Wait until no snapshot is being written; whether that is so."""
        if not self._busy.acquire(True, timeout):
            return False
        self._busy.release()
        return True

    # ---- processes ----

    def _begin_process(self) -> None:
        if self._pid == os.getpid():
            return
        self._pid = os.getpid()
        self._at_end = AtEnd(self._end)

    def go_on_in_child(self) -> None:
        """After a fork. Threads of the parent's are not here."""
        self._busy = _thread.allocate_lock()
        self._is_told = False
        if self._watchdog is not None:
            self._watchdog.go_on_in_child()

    def begin_in_child_of_multiprocessing(self) -> None:
        """It has thrown away what was to be done at its end."""
        self._pid = 0
        self._begin_process()

    def tell_uncaught(self, error, what: str) -> None:
        """An exception that nobody has caught."""
        self._is_told = True
        self.fire("exception", what, error=error)

    def _end(self, well: bool) -> None:
        if not well and not self._is_told and any(one.kind == "exception" for one in self.triggers):
            error = sys.exc_info()[1]
            self.fire("exception", "the process does not end well", error=error)
        self.wait()
        if self._stop_listening is not None:
            self._stop_listening()  # the interpreter is taken to pieces now, and much is raised
        if self.error is not None and not self._closed:
            import warnings

            warnings.warn(f"{self._keeper.path}: a snapshot failed: {self.error}", RuntimeWarning, stacklevel=1)

    def close(self) -> None:
        """Watch no more; a snapshot that is being written is finished. Twice is harmless."""
        if self._closed:
            return
        self.wait()
        self._closed = True
        if self in _watches:
            _watches.remove(self)
        if self._watchdog is not None:
            self._watchdog.stop()
        while self._undo:
            self._undo.pop()()
        self._at_end.cancel()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ringbuf.watch.Watch on {', '.join(one.text for one in self.triggers)}: {self.stats()}>"


def _go_on_in_child() -> None:
    for watch in _watches:
        watch.go_on_in_child()


os.register_at_fork(after_in_child=_go_on_in_child)


def close_those_of(channel: Channel) -> None:
    """The channel is about to be closed in this process."""
    for watch in [one for one in _watches if one._channel is channel]:
        watch.close()


# ---- programs as they are ----

#: Beside triggers, in RINGBUF_WATCH.
OPTIONS = ("dir", "last", "at_most", "keep", "max_size")
_DIRECTORY = "ringbuf-snapshots"


def from_environment(tracer) -> "Watch | None":
    """As RINGBUF_WATCH says: ``exception,signal=USR2,over=0.5,at_most=1/min,dir=PATH``.

    The program does not fail of it: what is wrong is warned of, once.
    """
    text = os.environ.get("RINGBUF_WATCH", "")
    if not text.strip():
        return None
    try:
        return Watch(tracer, **options_of(text))
    except (ValueError, OSError) as error:
        _warn_once(f"RINGBUF_WATCH: {error}")
        return None


def options_of(text: str) -> dict:
    """The arguments of a Watch."""
    given = {"last": "10", "at_most": "1/min", "keep": "20", "max_size": None}
    given["dir"] = os.path.join(os.environ.get("RINGBUF_DIR") or os.curdir, _DIRECTORY)
    on = []
    for part in rules.split(text):
        name, sign, value = part.partition("=")
        if sign and name.strip() in OPTIONS:
            given[name.strip()] = value.strip()
        else:
            on.append(part)
    if not str(given["keep"]).isdecimal():
        raise ValueError(f"keep: how many snapshots stay, 1 or more, not {given['keep']!r}")
    return {
        "directory": given.pop("dir"), "on": on, **given, "keep": int(given["keep"]),
    }  # fmt: skip


_warned: "set[str]" = set()


def _warn_once(text: str) -> None:
    if text in _warned:
        return
    _warned.add(text)
    import warnings

    warnings.warn(text, RuntimeWarning, stacklevel=5)
