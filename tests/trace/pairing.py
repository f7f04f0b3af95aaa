"""Joins begins with ends by the obvious algorithm, record by record: what `Trace.pairs` must find.

Written from docs/formats.md and the documentation of `Pair`, not from the code that is tested.
"""

import collections
from dataclasses import dataclass, field
from types import SimpleNamespace

NOBODY = (None, None)


@dataclass
class Open:
    name: str
    begin: int
    number: int
    parent: int
    depth: int
    thread: tuple
    task: str
    kind: str = "span"
    key: object = None
    begin_missing: object = None
    inside: list = field(default_factory=list)  # (begin, end or None) of what is directly within it


class Pairing:
    """Every pair of a trace, as a list of namespaces: `found`."""

    def __init__(self, trace):
        self.found = []
        self.trace = trace
        self.records = list(trace)
        self.first, self.last = self.bounds()
        self.lost_from, self.lost_to = self.losses()
        told = [one for one in self.records if one.name == "function_code"]
        self.functions = {self.key(one, one.fields["code"]): one.fields["name"] for one in told}
        self.images = {self.key(one, one.fields["code"]): one.fields.get("image", 0) for one in told}
        self.stacks, self.spans, self.orphans = {}, {}, {}
        self.strands = {}  # by number: what they were called, and the name that no other has
        self.n_called = collections.Counter()
        self.running, self.again, self.forked, self.image, self.marked = {}, {}, {}, {}, {}  # by thread
        self.calls = 0
        for one in self.records:
            self.take(one)
        self.ended = self.deaths()
        for thread, stack in list(self.stacks.items()):
            while stack:
                self.finish(stack.pop(), thread)
        for one in list(self.spans.values()):
            self.finish(one, one.thread)

    def bounds(self):
        first, last = self.trace.time_range
        times = [one.timestamp for one in self.records if one.name != "tick"]
        return min([first, *times]), max([last, *times])

    def losses(self):
        found = []
        for stream in self.trace.streams:
            before = None
            for packet in stream.packets:
                if before is None and packet.events_discarded:
                    found.append((packet.begin, packet.end))
                if before is not None and packet.events_discarded > before.events_discarded:
                    found.append((before.end, packet.end))
                elif before is not None and packet.sequence_number > before.sequence_number + 1:
                    found.append((before.end, packet.begin))
                before = packet
        return (min(one[0] for one in found), max(one[1] for one in found)) if found else (None, None)

    def deaths(self):
        """When those processes were last heard of that ended before the trace did, by pid: `ended_N`, and records."""
        found = {}
        for name, value in self.trace.env.items():
            if name.startswith("ended_"):
                pid, _, _, seen = map(int, str(value).split(" ")[:4])
                own = [time for thread, time in self.marked.items() if self.pid(thread) == pid]
                found[pid] = max([min(seen, self.last), *own])
        return found

    def finish(self, one, thread):
        """The trace ends, and it is open."""
        if self.pid(thread) in self.ended:
            self.close(one, self.ended[self.pid(thread)], "", lambda begin: "died")
        else:
            self.close(one, self.last, "", self.no_end)

    def no_end(self, begin):
        return "lost" if self.lost_to is not None and self.lost_to >= begin else "open"

    def no_begin(self, end):
        return "lost" if self.lost_from is not None and self.lost_from <= end else "before"

    # ---- records ----

    @staticmethod
    def key(record, code):
        return record.contexts.get("vpid"), code

    def take(self, record):
        thread = record.contexts.get("vpid"), record.contexts.get("vtid")
        if thread == NOBODY:
            thread = "cpu", record.cpu
        self.own_task = bool(record.contexts.get("task_name"))
        task = record.contexts.get("task_name", "") or self.running.get(thread, "")
        what = record.fields.get
        if record.name not in ("tick", "function_code"):
            self.act(record, thread, task, what)
            self.marked[thread] = record.timestamp

    def name_strand(self, strand, name):
        if self.strands.get(strand, ("",))[0] != name:
            self.n_called[name] += 1
            n = self.n_called[name]
            self.strands[strand] = name, name if n == 1 or not name else f"{name} #{n}"

    def act(self, record, thread, task, what):
        if record.name == "function_begin":
            began = what("began")
            time = record.timestamp if began is None else min(began + record.timestamp - record.ticks, record.timestamp)
            self.begin_call(thread, task, time, what("code"))
        elif record.name == "function_end":
            self.end_call(thread, task, record.timestamp, what("code"))
        elif record.name == "strand":
            self.name_strand(what("strand"), what("name"))
        elif record.name == "strand_switch":
            self.running[thread] = self.strands.get(what("strand"), ("", ""))[1]
            self.again[thread] = ["resumed"] * what("resumed")
        elif record.name == "process_image":
            if thread in self.marked:
                self.replace(thread)
            self.forked[thread], self.image[thread] = record.timestamp, what("image")
            self.again[thread] = ["inherited"] * what("inherited")
        elif record.name == "span_end":
            self.end_span(thread, task, record.timestamp, what("span_id"), what("error").partition(":")[0])
        elif "parent_id" in record.fields:
            self.begin_span(thread, task, record.timestamp, record.name, what("span_id"), what("parent_id"))

    @staticmethod
    def pid(thread):
        return None if thread[0] == "cpu" else thread[0]

    def replace(self, thread):
        """Another process image has its number from here on."""
        for other, stack in self.stacks.items():
            while stack and self.pid(other) == self.pid(thread):
                self.close(stack.pop(), self.marked[other], "", lambda begin: "died")
        for known in (self.running, self.again, self.forked, self.image, self.orphans):
            known.pop(thread, None)

    def called(self, thread, code):
        return self.functions.get((self.pid(thread), code), f"function {code}")

    def begin_call(self, thread, task, time, code):
        image = self.images.get((self.pid(thread), code), 0)
        if image and self.image.get(thread) not in (None, 0, image):
            self.replace(thread)
            task = task if task and self.own_task else ""
        if image:
            self.image[thread] = image
        stack = self.stacks.setdefault(thread, [])
        self.calls += 1
        above = stack[-1].number if stack else 0
        one = Open(self.called(thread, code), time, self.calls, above, len(stack), thread, task, "call", code)
        if self.again.get(thread):
            one.begin_missing = self.again[thread].pop()
        stack.append(one)

    def end_call(self, thread, task, time, code):
        stack = self.stacks.setdefault(thread, [])
        if code in [one.key for one in stack]:
            while stack[-1].key != code:
                self.close(stack.pop(), time, "", lambda begin: "lost")
            self.close(stack.pop(), time, "", lambda begin: None)
            return
        self.calls += 1
        one = Open(self.called(thread, code), time, self.calls, 0, len(stack), thread, task, "call", code)
        if stack:
            one.parent = stack[-1].number
            self.note(one, time, "", begin_missing="lost")
        else:
            one.begin = self.forked.get(thread, self.first)
            one.inside = self.orphans.get(thread, [])
            self.orphans[thread] = [(one.begin, time)]
            self.note(one, time, "", begin_missing="inherited" if thread in self.forked else self.no_begin(time))

    def begin_span(self, thread, task, time, name, number, parent):
        above = self.spans.get(parent)
        depth = above.depth + 1 if above else 0
        self.spans[number] = one = Open(name, time, number, parent, depth, thread, task)
        if above:
            one.key = [time, None]
            above.inside.append(one.key)

    def end_span(self, thread, task, time, number, error):
        if number in self.spans:
            self.close(self.spans[number], time, error, lambda begin: None)
        else:
            one = Open("", self.first, number, 0, 0, thread, task)
            self.note(one, time, error, begin_missing=self.no_begin(time))

    # ---- what is found ----

    def close(self, one, time, error, why):
        if one.kind == "span":
            del self.spans[one.number]
            if one.key:
                one.key[1] = time
        elif one.depth:
            self.stacks[one.thread][-1].inside.append((one.begin, time))
        else:
            self.orphans.setdefault(one.thread, []).append((one.begin, time))
        self.note(one, time, error, begin_missing=one.begin_missing, end_missing=why(one.begin))

    def note(self, one, time, error, begin_missing=None, end_missing=None):
        covered, until = 0, one.begin
        for begin, end in sorted((begin, time if end is None else end) for begin, end in one.inside):
            covered += max(0, end - max(begin, until))
            until = max(until, end)
        self.found.append(
            SimpleNamespace(
                kind=one.kind, name=one.name, begin=one.begin, duration=time - one.begin,
                self_time=time - one.begin - covered, id=one.number, parent=one.parent, depth=one.depth,
                thread=one.thread, task=one.task, error=error, begin_missing=begin_missing, end_missing=end_missing,
            )
        )  # fmt: skip
