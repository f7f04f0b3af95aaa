"""What runs in turns within one thread: greenlets, and tasks of asyncio.

The calls of a thread nest at every moment, also for those who know of no greenlets: when a thread goes over to
another one, the calls that wait end, and begin again when it comes back. A record in between says what runs
from there on. Events: docs/formats.md, "Spans, calls, log records".
"""

import os
import sys
from _weakref import ref
from itertools import count

__all__ = ["Strands"]

_MANY = 4096  # switches; then a flight recorder may have lost what was told before


class _Strand:
    """A greenlet or a task: its number, 0 for what a thread runs by itself."""

    __slots__ = ("era", "number", "object", "step")

    def __init__(self, of, number: int, era: int) -> None:
        self.object, self.number, self.era = of, number, era
        self.step = 0, 0  # of a greenlet that waits: the task in which it does, as Calls.switch says it


def _new_numbers():
    """From where no other process counts: chosen among so many. Each is given once, whichever threads ask."""
    return count((int.from_bytes(os.urandom(8), "little") >> 5) + 1)


class Strands:
    """Numbers of strands, told as they appear. What `Calls` asks for; no cost without greenlets and coroutines.

    Parameters
    ----------
    tracer : Tracer
    retell : bool
        As of `Calls`.

    Thread safety: any thread.
    """

    calls = None  # the Calls, once it is there

    def __init__(self, tracer, retell: bool = False) -> None:
        self._tracer = tracer
        self._retell = retell
        self._greenlet = None  # the module
        self._known: dict[int, _Strand] = {}  # by the address of the object
        self._events = None
        self._era = self._left = 0
        self._numbers = _new_numbers()

    # ---- what is recorded ----

    def switched(self, strand: int, resumed: int) -> None:
        """From here on this thread runs a strand; so many calls that it was in begin again."""
        if self._retell:
            self._left -= 1
            if self._left < 0:
                self._left = _MANY
                self._era += 1
        self._declared()[1](strand, resumed)

    def forked(self, image: int, parent: int, inherited: int) -> int:
        """In a forked child: so many calls begin with it. The strand that it is in."""
        self._known.clear()
        self._numbers = _new_numbers()
        begins = self._tracer.event("process_image", image="u32", parent="u32", inherited="u32")
        begins(image, parent, inherited)
        return self.strand_here()

    def _declared(self):
        """Not before they are needed: what a channel declares stands in each of its traces."""
        if self._events is None:
            event = self._tracer.event
            self._events = (
                event("strand", strand="u64", kind="str", name="str"),
                event("strand_switch", strand="u64", resumed="u32"),
            )
        return self._events

    def _of(self, one, kind: str, name) -> _Strand:
        """The strand of an object; `name` says how it is called."""
        known = self._known.get(id(one))
        if known is None or known.object() is not one:
            known = self._known[id(one)] = _Strand(ref(one, self._forgetting(id(one))), next(self._numbers), -1)
        if known.era != self._era and self._declared()[0](known.number, kind, name(one)):
            known.era = self._era
        return known

    def _forgetting(self, address: int):
        def forget(gone):
            known = self._known.get(address)
            if known is not None and known.object is gone:
                self._known.pop(address, None)

        return forget

    # ---- greenlets ----

    def greenlets(self, module) -> None:
        """The program has imported the package ``greenlet``."""
        self._greenlet = module

    def follow_here(self) -> None:
        """Be told of each switch in this thread from now on; so is whoever was told before."""
        previous = None

        def switched(event, args):
            if event in ("switch", "throw") and self.calls.is_on:
                self._switched(*args)
            if previous is not None:
                previous(event, args)

        previous = self._greenlet.settrace(switched)

    def _switched(self, origin, target) -> None:
        try:
            before, after = self._of_greenlet(origin), self._of_greenlet(target)
            before.step = self.calls.switch(origin.gr_frame, before.number, after.number, after.step)
        except Exception as error:
            self.calls.report(error)  # raised, it would end the program's switch

    def _of_greenlet(self, one) -> _Strand:
        if one.parent is None:  # what the thread itself is in
            known = self._known.get(id(one))
            if known is None or known.object() is not one:
                known = self._known[id(one)] = _Strand(ref(one, self._forgetting(id(one))), 0, 0)
            return known
        return self._of(one, "greenlet", _name_of_type)

    def strand_here(self) -> int:
        """The strand of the greenlet that this thread is in."""
        return 0 if self._greenlet is None else self._of_greenlet(self._greenlet.getcurrent()).number

    # ---- tasks ----

    def task_here(self) -> int:
        """The strand of the task that this thread is in; 0: none."""
        asyncio = sys.modules.get("asyncio")
        loop = getattr(asyncio, "_get_running_loop", _no_loop)()
        if loop is None:
            return 0
        task = asyncio.current_task(loop)
        return 0 if task is None else self._of(task, "task", _name_of_task).number


def _no_loop() -> None:
    """asyncio is not there, or not yet."""


def _name_of_type(one) -> str:
    return type(one).__qualname__


def _name_of_task(task) -> str:
    return str(task.get_name())
