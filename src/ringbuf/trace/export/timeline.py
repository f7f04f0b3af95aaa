"""What a trace shows on a time line: slices and instants on tracks.

Each thread has a track; a record that does not say its thread is on that of its CPU. Function
calls are slices of their thread, or of the greenlet or task that it runs, which is a track below.
A span is a slice on a track of its own below the thread's, shared with those that lie within it:
spans of asyncio tasks overlap, slices of one track nest. Every other record is an instant.
Process images that have the same process id, one after the other or in two PID namespaces, have
their own tracks. What was counted is a graph. What the kernel told of its threads, system calls and interrupts are
slices too: of the CPU that ran a thread or was interrupted, and of the thread that made the call. docs/formats.md has
the conventions.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from ..._decode import Drawer, Drawing
from ..counters import counted, is_counted
from ..deaths import deaths
from ..meanings import (
    IDENTITY,
    IRQ,
    SOFTIRQ,
    Function,
    ended,
    functions,
    is_identity,
    kernel_name,
    meaning,
    system_call,
)
from ..threads import threads_of

__all__ = ["Timeline", "Track", "Writer"]

_ITEMS = 1 << 13  # drawn at a time
_FLOWS = 2_000_000  # spans that are looked at for arrows between threads
_MIX = 0x9E3779B97F4A7C15  # an arrow's number is not that of a span


@dataclass(eq=False)
class Track:
    """A line of slices and instants.

    Attributes
    ----------
    id : int
        No other track has it.
    kind : {"process", "thread", "strand", "cpu", "spans", "counter"}
    name : str
        Empty if nobody has said it.
    pid, tid : int or None
        Of the process and thread. A CPU's `tid` is its number.
    parent : Track or None
        The process of a thread, the thread of strands (greenlets and tasks) and spans.
    nth : int
        Of how many process images of this process id it came last; 0: the first one.
    unit : str
        Of a counter's values.
    """

    id: int
    kind: str
    name: str
    pid: int | None
    tid: int | None
    parent: Track | None
    nth: int = 0
    unit: str = ""


class Writer(Protocol):
    """A format. Times are nanoseconds since the Unix epoch, and need not be in order.

    One whose instants C code writes has an attribute ``native``, and says how parts of them are encoded: see
    `perfetto.Writer`.
    """

    def track(self, track: Track) -> None:
        """A track is new, or has another name."""

    def begin(self, time: int, track: Track, name: str, category: str, args: dict, function: Function | None) -> None:
        """A slice begins, within those that are open on the track."""

    def end(self, time: int, track: Track, name: str, category: str, args: dict) -> None:
        """The slice ends that was begun last."""

    def instant(self, time: int, track: Track, name: str, category: str, args: dict) -> None: ...

    def value(self, time: int, track: Track, value: int | float) -> None:
        """What a counter, or a gauge, is from now on."""

    def flow(self, outgoing: list[int], incoming: list[int]) -> None:
        """Of the slice that begins next: arrows that go from it, and those that lead to it, by number."""

    def close(self) -> None: ...


class Timeline:
    """Tells a `Writer` what a trace shows."""

    def __init__(self, trace, writer: Writer) -> None:
        self._trace = trace
        self._writer = writer
        self._places = _Places(trace, writer)
        self._spans: dict[int, _Span] = {}  # those that are open
        self._calls: dict[Track, list[tuple]] = {}
        self._n_open: Counter[tuple] = Counter()  # of (track, call): no stack is searched for an end
        self._n_orphans: dict[Track, int] = {}
        self._again: dict[Track, tuple[int, str]] = {}  # by thread: how many of the next begins only go on, and why
        self._begins: dict[int | None, int] = {}  # of forked process images
        self._functions = functions(trace)
        self._counts: dict[Track, tuple[int, float]] = {}  # of histograms: values and their sum so far
        self._start = 0
        self._flows: dict[int, list[int]] = {}  # by span: numbers of the arrows that go from it
        self._flows_to: dict[int, list[int]] = {}  # and that lead to it

    def write(self, *, events=None, begin: int | None = None, end: int | None = None, is_wanted=None) -> None:
        """Go through the records of some events, or of some time, as of `Trace.records`; those that are wanted."""
        first, last = self._trace.time_range or (0, 0)
        self._start = max(first, first if begin is None else begin)
        handlers, names = self._handlers(set(self._trace.event_names(events)))
        self._write_losses(self._start, last if end is None else end)
        if any(handler == self._span_begin for handler in handlers.values()):
            self._find_flows()
        if is_wanted is None and hasattr(self._writer, "native"):
            self._draw(handlers, names, begin, end)
        else:
            for record in self._trace.records(names, begin=begin, end=end):
                if is_wanted is None or is_wanted(record):
                    handlers[record.name, record.event_id](record)
        self._end_replaced()
        self._end_died(last, last if end is None else end)

    # ---- instants in C ----

    def _draw(self, handlers: dict, names: set[str], begin: int | None, end: int | None) -> None:
        """All records: those that are mere instants in C, the others by their handlers."""
        trace, classes = self._trace, self._trace.event_classes
        bounds = -(2**63) if begin is None else begin, 2**63 - 1 if end is None else end
        self._by_class = [handlers[event.name, event.id] if event.name in names else _ignore for event in classes]
        kinds = [{self._event: "event", _ignore: None}.get(handler, "other") for handler in self._by_class]
        drawers = {}
        for source, first in trace.first_class.items():
            own = kinds[first : first + len(source.decoder.event_names)]
            drawers[source] = Drawer(source.decoder, first, own, self._writer, *bounds)
        owners = [drawers[stream.source] for stream in trace.streams]
        self._drawing = Drawing(list(drawers.values()), owners, self, self._writer, self._writer.origin)

        def fill(stream, data, packet, offset, lanes):
            drawers[stream.source].fill(data, packet, lanes[0], offset=offset)

        lanes = [{None: [lane]} for lane in self._drawing.lanes]
        for ((_, rows),) in trace.batches(lanes, _ITEMS, fill, *bounds):
            self._drawing.draw(rows)
        self._drawing.flush()

    def draw_record(self, record, index: int) -> None:
        """One that C code does not draw."""
        changes = self._places.changes
        self._by_class[index](record)
        if self._places.changes != changes:
            self._drawing.forget()

    def whose(self, cpu: int | None, pid: int | None, tid: int | None) -> Track:
        """The track of records that say so much."""
        return self._places.here_of(cpu, pid, tid)

    def _handlers(self, names: set[str]):
        """What to do with an event, by name and id; and all names that this takes."""
        handlers, needed = {}, set(names)
        shaping = set()  # they say where calls belong
        for event in self._trace.event_classes:
            handlers[event.name, event.id] = self._handler(event, names)
            if meaning(event) in ("strand", "switch", "image"):
                shaping.add(event.name)
        if any(handler == self._span_begin for (name, _), handler in handlers.items() if name in names):
            needed.add("span_end")
        if "function_begin" in names:
            needed |= {"function_end"} | shaping
        needed |= _partners(self._trace, names)
        return handlers, needed & {name for name, _ in handlers}

    def _handler(self, event, names: set[str]):
        match meaning(event):
            case "span":
                return self._span_begin
            case "span_end":
                return self._span_end if "span_end" in names else self._known_span_end
            case "call":
                return self._function_begin
            case "call_end":
                return self._function_end if "function_begin" in names else self._event
            case "code" | "link":
                return _ignore
            case "strand":
                return self._strand
            case "switch":
                return self._switch
            case "image":
                return self._image
            case "log":
                return self._log
            case "audit":
                return self._audit
            case "run":
                return self._run
            case "irq" | "irq_end" | "syscall" | "syscall_end" as kind:
                return self._of_kernel(event, kind)
        return self._counter if is_counted(event) else self._event

    def _write_losses(self, begin: int, end: int) -> None:
        """An instant where the trace says that records are missing."""
        for stream in self._trace.streams:
            track = self._places.cpu(stream.cpu) if stream.lost.events or stream.lost.packets else None
            for _, after, events, packets in stream.gaps:
                if after.begin is None or not begin <= after.begin <= end:
                    continue
                for name, count in (("records lost", events), ("packets lost", packets)):
                    if count > 0:
                        self._writer.instant(after.begin, track, name, "ringbuf", {"count": count})

    # ---- instants ----

    def _event(self, record) -> None:
        self._writer.instant(record.timestamp, self._places.here(record), record.name, "event", _args(record))

    def _log(self, record) -> None:
        args = _args(record)
        if not args.get("exception"):
            args.pop("exception", None)
        self._writer.instant(record.timestamp, self._places.here(record), args.pop("message"), "log", args)

    def _audit(self, record) -> None:
        args = _args(record)
        self._writer.instant(record.timestamp, self._places.here(record), args.pop("name"), "audit", args)

    # ---- graphs ----

    def _counter(self, record) -> None:
        one = counted(record)
        if one.kind != "histogram":
            self._writer.value(one.time, self._places.counter(one.title, one.unit, one.pid), one.value)
            return
        track = self._places.counter(f"{one.title} count", "", one.pid)
        count, total = self._counts.get(track, (0, 0.0))
        self._counts[track] = one.value, one.sum
        self._writer.value(one.time, track, one.value)
        if one.value > count:  # of the values since the look before
            mean = self._places.counter(f"{one.title} mean", one.unit, one.pid)
            self._writer.value(one.time, mean, (one.sum - total) / (one.value - count))

    # ---- functions ----

    def _function_begin(self, record) -> None:
        call = self._call(record)
        track = self._places.here(record)
        self._push_call(track, call)
        args = _args(record)
        del args["code"]
        began = args.pop("began", None)
        time = record.timestamp if began is None else record.time_of(began)
        if self._again:
            self._mark_again(self._places.of(record), args)
        name, function = self._named(call)
        self._writer.begin(time, track, name, "function", args, function)

    def _mark_again(self, thread: Track, args: dict) -> None:
        left, why = self._again.pop(thread, (0, ""))
        if left:
            args["begin"] = why
        if left > 1:
            self._again[thread] = left - 1, why

    def _function_end(self, record) -> None:
        call = self._call(record)
        track = self._places.here(record)
        if self._n_open[track, call]:
            self._end_call(record.timestamp, track, call, {})
        elif not self._calls.setdefault(track, []):
            self._function_without_begin(record.timestamp, track, call)

    def _push_call(self, track: Track, call: tuple) -> None:
        self._calls.setdefault(track, []).append(call)
        self._n_open[track, call] += 1

    def _end_call(self, time: int, track: Track, call: tuple, args: dict) -> None:
        ended, calls = None, self._calls[track]
        while ended != call:  # those above it have lost their ends
            ended = self._pop_call(track, calls)
            self._writer.end(time, track, *self._title(ended), args if ended == call else {})

    def _pop_call(self, track: Track, calls: list[tuple]) -> tuple:
        call = calls.pop()
        self._n_open[track, call] -= 1
        return call

    def _function_without_begin(self, time: int, track: Track, call: tuple) -> None:
        """It began before the trace, or before the fork. Those whose ends came earlier lie within it."""
        name, function = self._named(call)
        self._n_orphans[track] = self._n_orphans.get(track, 0) + 1
        start, why = self._start, "before the trace"
        forked = self._begins.get(self._image_of(call), start)
        if forked > start:
            start, why = forked, "inherited"
        begin = start - self._n_orphans[track]
        self._writer.begin(begin, track, name, "function", {"begin": why}, function)
        self._writer.end(time, track, name, "function", {})

    def _call(self, record) -> tuple:
        call = _said(record.contexts, "vpid"), record.fields["code"]
        image = self._image_of(call)
        if image is not None:
            self._places.be(call[0], image, record.timestamp)
        return call

    def _image_of(self, call: tuple) -> int | None:
        function = self._functions.get(call)
        return None if function is None else function.image

    def _named(self, call: tuple) -> tuple[str, Function | None]:
        function = self._functions.get(call)
        return (function.name if function else f"function {call[1]}"), function

    def _title(self, call: tuple) -> tuple[str, str]:
        """Name and category of what is open."""
        return (call[1], "kernel") if call[0] == "kernel" else (self._named(call)[0], "function")

    # ---- what the kernel tells ----

    def _run(self, record) -> None:
        """A CPU ends what it ran, with all that interrupted it, and runs another thread."""
        track, fields = self._places.cpu(record.cpu), record.fields
        calls = self._calls.get(track)
        if calls:
            self._end_call(record.timestamp, track, calls[0], {})
        thread = fields["next_tid"] if "next_tid" in fields else fields["next_pid"]
        if thread:
            name = kernel_name(fields["next_comm"], thread)
            self._places.note_running(record.cpu, thread, name)
            self._begin_kernel(record, track, name)
        else:
            self._places.note_running(record.cpu, None, "")

    def _of_kernel(self, event, kind: str):
        is_end, is_syscall = kind.endswith("_end"), kind.startswith("syscall")
        call = system_call(event) if is_syscall else ""
        base = 0 if is_syscall else SOFTIRQ if "softirq" in event.name else IRQ

        def handle(record) -> None:
            fields = record.fields
            number = base + next((fields[one] for one in ("id", "irq", "vec") if one in fields), 0)
            name = f"syscall {call}" if call else kernel_name("", number)
            track = self._places.of_kernel(record) if is_syscall else self._places.cpu(record.cpu)
            if not is_end:
                self._begin_kernel(record, track, name)
            elif self._n_open[track, ("kernel", name)]:
                self._end_call(record.timestamp, track, ("kernel", name), _args(record))

        return handle

    def _begin_kernel(self, record, track: Track, name: str) -> None:
        self._push_call(track, ("kernel", name))
        self._writer.begin(record.timestamp, track, name, "kernel", _args(record), None)

    # ---- what the calls belong to ----

    def _strand(self, record) -> None:
        fields = record.fields
        self._places.strand_names[fields["strand"]] = f"{fields['kind']} {fields['name']}"

    def _switch(self, record) -> None:
        thread, fields = self._places.of(record), record.fields
        self._places.switch(thread, fields["strand"])
        if fields["resumed"]:
            self._again[thread] = fields["resumed"], "resumed"

    def _image(self, record) -> None:
        """A forked child begins, in the middle of calls."""
        fields, time = record.fields, record.timestamp
        self._places.be(_said(record.contexts, "vpid"), fields["image"], time)
        self._begins[fields["image"]] = time
        if fields["inherited"]:
            self._again[self._places.of(record)] = fields["inherited"], "inherited"

    def _end_replaced(self) -> None:
        """An exec ends all calls of the image that it replaces, and says nothing."""
        for track, calls in self._calls.items():
            time = self._places.replaced(track) if calls else None
            while time is not None and calls:
                self._writer.end(time, track, *self._title(self._pop_call(track, calls)), {"end": "exec"})

    def _end_died(self, last: int, end: int) -> None:
        """What a process left open ends with it, as far as the trace says that it ended."""
        for death in deaths(self._trace, threads_of(self._trace) if ended(self._trace) else ()):
            pid, time = death.pid, min(death.time or last, last)
            open_ones = [span for span in self._spans.values() if span.lane.thread.pid == pid]
            tracks = {track for track, calls in self._calls.items() if calls and track.pid == pid}
            if time > end:
                continue
            for track in tracks:
                while self._calls[track]:
                    title = self._title(self._pop_call(track, self._calls[track]))
                    self._writer.end(time, track, *title, {"end": "died"})
            for lane in {span.lane for span in open_ones}:
                while lane.open:
                    self._writer.end(time, lane.track, lane.open.pop().name, "span", {"end": "died"})
            threads = [*(span.lane.thread for span in open_ones), *tracks, *self._places.threads_of(pid)]
            if threads:
                name = "process died" if open_ones or tracks or death.records else "process ended"
                self._writer.instant(time, threads[0], name, "ringbuf", {})

    # ---- spans ----

    def _find_flows(self) -> None:
        """Which spans have children in other threads, of those that are to be found in so many; and which follow."""
        for flow in itertools.islice(self._trace.flows(), _FLOWS):
            number = (flow.source * _MIX + flow.target) % (1 << 64)
            self._flows.setdefault(flow.source, []).append(number)
            self._flows_to.setdefault(flow.target, []).append(number)
        threads: dict[int, int] = {}
        waiting: dict[int, list[tuple[int, int]]] = {}
        for rows in self._trace.spans().iter_numpy():
            for one, parent, thread in zip(*(rows[name].tolist() for name in ("id", "parent", "thread")), strict=True):
                for child, of_child in waiting.pop(one, ()):
                    self._note_flow(one, thread, child, of_child)
                if parent in threads:
                    self._note_flow(parent, threads[parent], one, thread)
                elif parent:
                    waiting.setdefault(parent, []).append((one, thread))
                threads[one] = thread
            if len(threads) > _FLOWS:
                return

    def _note_flow(self, parent: int, of_parent: int, child: int, of_child: int) -> None:
        if of_parent != of_child:
            self._flows.setdefault(parent, []).append(child)
            self._flows_to.setdefault(child, []).append(child)

    def _span_begin(self, record) -> None:
        args, thread = _args(record), self._places.of(record)
        above = self._spans.get(args["parent_id"])
        if above is not None and above.lane.thread is thread and above.lane.open[-1] is above:
            lane = above.lane
        else:
            lane = self._places.free_lane(thread)
        number = args["span_id"]
        span = self._spans[number] = _Span(record.name, args, lane)
        if number in self._flows or number in self._flows_to:
            self._writer.flow(self._flows.get(number, []), self._flows_to.get(number, []))
        self._begin_span(record.timestamp, span)

    def _begin_span(self, time: int, span: _Span) -> None:
        span.lane.open.append(span)
        self._writer.begin(time, span.lane.track, span.name, "span", span.args, None)

    def _known_span_end(self, record) -> bool:
        fields = record.fields
        span = self._spans.pop(fields["span_id"], None)
        if span is None:
            return False
        lane = span.lane
        ended: list[_Span] = []  # innermost first
        while span not in ended[-1:]:
            one = lane.open.pop()
            args = {"error": fields["error"]} if one is span and fields["error"] else {}
            self._writer.end(record.timestamp, lane.track, one.name, "span", args)
            ended.append(one)
        for one in reversed(ended[:-1]):  # these outlive it: they go on elsewhere
            one.lane = self._places.free_lane(lane.thread)
            one.args = {**one.args, "continued": True}
            self._begin_span(record.timestamp, one)
        return True

    def _span_end(self, record) -> None:
        if not self._known_span_end(record):
            self._event(record)


# ---- tracks ----


@dataclass(eq=False)
class _Lane:
    """A track for spans, and those open on it, innermost last."""

    track: Track
    thread: Track
    open: list[_Span] = field(default_factory=list)


@dataclass(eq=False)
class _Span:
    name: str
    args: dict
    lane: _Lane


class _Places:
    """The tracks, made when they are needed."""

    def __init__(self, trace, writer: Writer) -> None:
        self._writer = writer
        self._creator = _said(trace.env, "vpid")
        #: Names of processes that no record names: what the trace says of who made it, and of those that have ended.
        self._programs = {one.pid: one.thread for one in ended(trace) if one.tid == one.pid}
        self._programs[self._creator] = _said(trace.env, "procname") or ""
        self._tracks: dict[tuple, Track] = {}
        self._n_tracks = 0
        self._lanes: dict[Track, list[_Lane]] = {}
        self._known: dict[tuple, Track] = {}  # by what records say
        self._images: dict[int | None, dict[int, int]] = {}  # by process id: in which order they appeared
        self._nth: dict[int | None, int] = {}  # by process id: which of these records come from now
        self._replaced: dict[tuple, int] = {}  # by process id and place in that order: since when they do not
        self._strands: dict[Track, Track] = {}  # by thread: what it runs, if that is not itself
        self._tracks_of_strands: dict[tuple, Track] = {}
        self.strand_names: dict[int, str] = {}
        self.changes = 0  # of where records belong
        self._by_tid: dict[int, Track] = {}  # the newest thread of each number, as the kernel has them
        self._running: dict[int | None, int | None] = {}  # by CPU: the thread
        self._commands: dict[int, str] = {}  # by thread

    def threads_of(self, pid: int) -> list[Track]:
        return [track for track in self._known.values() if track.pid == pid]

    def note_running(self, cpu: int | None, thread: int | None, name: str) -> None:
        self._running[cpu] = thread
        if thread is not None:
            self._commands[thread] = name

    def of_kernel(self, record) -> Track:
        """The thread, or what it runs, that a record of the kernel is of, by its context or by what its CPU runs."""
        contexts = record.contexts
        tid = next((contexts[one] for one in ("common_pid", "tid") if one in contexts), self._running.get(record.cpu))
        if tid is None:
            return self.cpu(record.cpu)
        thread = self._by_tid.get(tid)
        if thread is None:
            thread = self._by_tid[tid] = self._track(
                "thread", self._commands.get(tid, f"thread {tid}"), None, tid, None
            )
        return self._strands.get(thread, thread)

    def of(self, record) -> Track:
        """The thread that a record is from."""
        contexts = record.contexts
        image = contexts.get("image")
        if isinstance(image, int):
            self.be(_said(contexts, "vpid"), image, record.timestamp)
        return self._thread_of(record.cpu, *[_said(contexts, name) for name in IDENTITY])

    def _thread_of(self, cpu, pid, tid, program=None, name=None) -> Track:
        who = pid, tid, program, name, self._nth.get(pid, 0)
        return self._known.get(who) or self._track_of(cpu, *who)

    def here(self, record) -> Track:
        """Where a record belongs: its thread, or the greenlet or task that this runs."""
        thread = self.of(record)
        return self._strands.get(thread, thread)

    def here_of(self, cpu: int | None, pid: int | None, tid: int | None) -> Track:
        """The same of records that say so much, until there are more `changes`."""
        thread = self._thread_of(cpu, pid, tid)
        return self._strands.get(thread, thread)

    def be(self, pid: int | None, image: int, time: int) -> None:
        """What comes from this process id now is from that process image."""
        images = self._images.setdefault(pid, {})
        nth = images.setdefault(image, len(images))
        before = self._nth.get(pid, 0)
        if nth != before:
            self.changes += 1
            self._replaced[pid, before] = time
            self._replaced.pop((pid, nth), None)
        self._nth[pid] = nth

    def replaced(self, track: Track) -> int | None:
        """When another process image took the place of the track's, for good; None: none did."""
        return self._replaced.get((track.pid, track.nth))

    def switch(self, thread: Track, strand: int) -> None:
        """The thread runs this strand from now on; 0: itself."""
        self.changes += 1
        if not strand:
            self._strands.pop(thread, None)
            return
        track = self._tracks_of_strands.get((thread, strand))
        if track is None:
            name = self.strand_names.get(strand, f"strand {strand}")
            track = self._new("strand", name, thread.pid, thread.tid, thread, thread.nth)
            self._tracks_of_strands[thread, strand] = track
        self._strands[thread] = track

    def _track_of(self, cpu, pid, tid, program, name, nth) -> Track:
        if pid is None and tid is None:
            return self.cpu(cpu)
        who = pid, tid, program, name, nth
        if pid is None:
            pid = self._creator
        program = program or self._programs.get(pid, "")
        process = self._track("process", program, pid, None, None, nth)
        track = self._known[who] = self._track("thread", name or "", pid, pid if tid is None else tid, process, nth)
        self._by_tid[track.tid] = track
        return track

    def cpu(self, number: int | None) -> Track:
        """Of records that are only known to be from this CPU, or not even that."""
        return self._track("cpu", "all CPUs" if number is None else f"CPU {number}", None, number, None)

    def counter(self, title: str, unit: str, pid: int | None) -> Track:
        """Of one series; of the process whose it is, if it is one's."""
        key = "counter", pid, title, 0
        track = self._tracks.get(key)
        if track is None:
            program = self._programs.get(pid, "")
            process = None if pid is None else self._track("process", program, pid, None, None, self._nth.get(pid, 0))
            track = self._tracks[key] = self._new("counter", title, pid, None, process, 0, unit)
        return track

    def free_lane(self, thread: Track) -> _Lane:
        lanes = self._lanes.setdefault(thread, [])
        for lane in lanes:
            if not lane.open:
                return lane
        track = self._new("spans", "spans", thread.pid, thread.tid, thread, thread.nth)
        lanes.append(_Lane(track, thread))
        return lanes[-1]

    def _track(self, kind: str, name: str, pid: int | None, tid: int | None, parent: Track | None, nth=0) -> Track:
        track = self._tracks.get((kind, pid, tid, nth))
        if track is None:
            track = self._tracks[kind, pid, tid, nth] = self._new(kind, name, pid, tid, parent, nth)
        elif name and name != track.name:
            track.name = name
            self._writer.track(track)
        return track

    def _new(self, kind, name, pid, tid, parent, nth, unit="") -> Track:
        self._n_tracks += 1
        track = Track(self._n_tracks, kind, name, pid, tid, parent, nth, unit)
        self._writer.track(track)
        return track


# ---- what records say ----


def _ignore(record) -> None:
    """It says what others mean, and shows nothing itself."""


def _partners(trace, names: set[str]) -> set[str]:
    """The kernel's events that end what these begin."""
    kinds = {event.name: meaning(event) for event in trace.event_classes}
    ends = {f"{kinds[name]}_end" for name in names if kinds.get(name) in ("irq", "syscall")}
    return {name for name, kind in kinds.items() if kind in ends}


def _said(contexts, name: str):
    """What a context says of who recorded; None if there is none, or if it is of another type."""
    value = contexts.get(name)
    return value if is_identity(name, value) else None


def _args(record) -> dict:
    """All but what the track shows."""
    args = {name: value for name, value in record.contexts.items() if not is_identity(name, value)}
    args.update(record.fields)
    return args
