"""draw.h, draw.pxi: instants that C code writes are those that Python writes."""

import itertools
import json
import math

import needs
import pytest
from timelines import OF_IMAGES, PID, TID, written

from ringbuf.trace.export import chrome, perfetto
from ringbuf.trace.export.timeline import Timeline

FIELDS = "n:u64,low:i8,x:f64,single:f32,on:bool,text:str,few:str"
SCHEMAS = OF_IMAGES | {"plain": FIELDS, "bare": "", "odd": "many:u16[],n:u8"}
FLOATS = [0.0, -0.0, 0.1, 3.25, -1e-300, 1e16, 123456789012.345, 1 / 3, math.inf, -math.inf, math.nan, 2.0**60, 1e-5]
TEXTS = ["", "a", '"\\\n\t\x01\x7f/', "zwölf \U0001f642", "x" * 300, "inside\0it"]


class Slow:
    """A writer of whose format C code knows nothing."""

    def __init__(self, writer):
        self._writer = writer

    def __getattr__(self, name):
        if name == "native":
            raise AttributeError(name)
        return getattr(self._writer, name)


def values(rng):
    n = rng.choice((0, 1, 127, 128, 2**63 - 1, 2**63, 2**64 - 1, rng.getrandbits(64)))
    text = rng.choice(TEXTS)
    return [n, rng.randrange(-128, 128), rng.choice(FLOATS), rng.choice((0.5, 0.1)), rng.random() < 0.5, text, "t"]


def many(rng):
    """Records in order of time: instants that C code knows, those that it does not, and what moves others elsewhere."""
    made = {
        "plain": lambda: values(rng),
        "bare": list,
        "odd": lambda: [[1, 2], 3],
        "strand_switch": lambda: [rng.randrange(3), 0],
        "process_image": lambda: [rng.randrange(1, 4), 0, 0],
    }
    for time in range(10, 600, 2):
        name = rng.choice((*made, "plain", "bare"))
        yield time, name, made[name](), (rng.choice((PID, 7)), rng.choice((TID, 8, -1)))


def packets_of(data):
    proto = needs.module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    trace = proto.Trace()
    trace.ParseFromString(data)
    names, found = {}, []
    for packet in trace.packet:
        for kind in ("event_categories", "event_names", "debug_annotation_names"):
            names.update({(kind, one.iid): one.name for one in getattr(packet.interned_data, kind)})
        event = packet.track_event
        arguments = []
        for one in event.debug_annotations:  # NaN is not itself: as text
            arguments.append((names["debug_annotation_names", one.name_iid], str(one).partition("\n")[2]))
        name = names.get(("event_names", event.name_iid))
        categories = [names["event_categories", one] for one in event.category_iids]
        if packet.HasField("track_event") or packet.HasField("track_descriptor"):
            described = str(packet.track_descriptor)
            found.append((packet.timestamp, event.type, event.track_uuid, name, categories, arguments, described))
    return found


def export(trace, writer_class, slow, **options):
    parts = []
    writer = writer_class(parts.append, trace, **options)
    Timeline(trace, Slow(writer) if slow else writer).write()
    writer.close()
    return b"".join(parts)


@pytest.fixture
def trace(tmp_path, rng):
    return written(tmp_path, *many(rng), schemas=SCHEMAS)


def test_chrome_has_the_same_events(trace):
    fast, slow = (json.loads(export(trace, chrome.Writer, slow))["traceEvents"] for slow in (False, True))
    assert len(fast) > 200
    assert fast == slow


def test_perfetto_has_the_same_events(trace):
    fast, slow = (packets_of(export(trace, perfetto.Writer, slow, compress=False)) for slow in (False, True))
    assert len(fast) > 200
    for one, other in itertools.zip_longest(fast, slow):
        assert one == other


def test_text_that_is_no_utf8_is_mended(tmp_path):
    records = [(time, "plain", [1, 1, 0.5, 0.5, True, b"\xff" if time % 2 else "good", "t"]) for time in range(1, 9)]
    trace = written(tmp_path, *records, schemas=SCHEMAS)
    fast, slow = (json.loads(export(trace, chrome.Writer, slow))["traceEvents"] for slow in (False, True))
    assert fast == slow
    assert [event["args"]["text"] for event in fast if event["ph"] == "i"] == ["\ufffd", "good"] * 4


def test_only_what_is_asked_for_is_written(trace):
    parts = []
    writer = chrome.Writer(parts.append, trace)
    begin = trace.time_range[0] + 100
    Timeline(trace, writer).write(events="plain", begin=begin, end=begin + 200)
    writer.close()
    events = [one for one in json.loads(b"".join(parts))["traceEvents"] if one["ph"] == "i"]
    assert {one["name"] for one in events} == {"plain"}
    expected = sum(1 for _ in trace.records("plain", begin=begin, end=begin + 200))
    assert len(events) == expected > 0
