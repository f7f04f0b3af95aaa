"""babeltrace2 judges the traces we write. Nothing here knows our own reader.

    import judge
    judge.events(directory)     every event: [{"name": ..., "ns": ..., "cpu": ..., "fields": ..., ...}, ...]
    judge.read(directory)       the events, the packets, and what babeltrace2 says was lost
    judge.text(directory)       what the babeltrace2 command prints
    judge.counts(directory)     how many messages of each kind; fast, for millions of events

A trace that babeltrace2 refuses raises Refused. Where babeltrace2 or its Python bindings are missing, the calling
test is skipped, or fails if CI=true.
"""

import functools
import json
import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import needs

BT2_SCRIPT = Path(__file__).with_name("judge_bt2.py")

# The user's settings must not change what is judged.
ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Refused(Exception):
    """babeltrace2 could not read the trace; the message is what it printed."""


@dataclass
class Trace:
    """What the bindings of babeltrace2 found in a trace, merged by time over all streams.

    Each of events is a dict:
        name      str
        id        the id of its event class
        ns        time in nanoseconds since the clock's origin (the epoch, for an absolute clock)
        ticks     the same, in ticks of the trace's clock
        cpu       cpu_id of the packet, or None
        stream    [stream class id, stream instance id]
        fields    {name: value}
        contexts  {"packet": {...}, "stream": {...}, "event": {...}}; what the trace lacks is {}. babeltrace2 keeps
                  the packet's sizes, times, sequence number and loss count to itself: they show in what follows
        labels    {field: [enumerator, ...]} of the enumeration fields, whose value is the integer

    Each of packets: stream, cpu, begin_ns, end_ns, context, events (how many).
    Each of discarded_events and discarded_packets: stream, count (None if unknown), begin_ns, end_ns.
    """

    events: list = field(default_factory=list)
    packets: list = field(default_factory=list)
    discarded_events: list = field(default_factory=list)
    discarded_packets: list = field(default_factory=list)
    warnings: str = ""


def read(directory):
    """Everything that babeltrace2's Python bindings say of a trace. About 20,000 events a second."""
    needs.tool("bt2")
    done = _run([needs.BT2_PYTHON, "-I", str(BT2_SCRIPT), str(directory)])
    trace = Trace(warnings=done.stderr)
    for line in done.stdout.splitlines():
        kind, message = json.loads(line)
        getattr(trace, kind).append(message)
    return trace


def events(directory):
    """The events of a trace, in order of time; see Trace."""
    return read(directory).events


def text(directory, *options):
    """What `babeltrace2 OPTIONS DIRECTORY` prints: .stdout (one event a line), .stderr (warnings of losses)."""
    return _run([needs.command("babeltrace2"), *options, str(directory)])


def counts(directory):
    """How many messages of each kind: {"Event": 3, "Packet beginning": 1, "Discarded event": 0, ...}."""
    printed = text(directory, "--component", "sink.utils.counter").stdout
    found = re.findall(r"^ *([\d,]+) (.+?) messages?\b", printed, re.MULTILINE)
    return {kind: int(count.replace(",", "")) for count, kind in found}


@functools.cache
def version():
    """Of babeltrace2, as (2, 1). From 2.1 on, it says nothing of events that were lost before a stream's first packet,
    and prints the labels of a value with several of them in braces, in the order of the alphabet."""
    printed = _run([needs.command("babeltrace2"), "--version"]).stdout
    return tuple(int(part) for part in re.search(r"(\d+)\.(\d+)", printed).groups())


def _run(command):
    done = subprocess.run(
        command, env=ENVIRONMENT, capture_output=True, text=True, errors="surrogateescape", check=False
    )
    if done.returncode:
        raise Refused(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    return done
