"""perfetto.py: what Perfetto's own classes read is what was recorded."""

import zlib

import needs
import pytest
from timelines import ORIGIN, PID, TICK, TID, written

from ringbuf.trace.export import perfetto


@pytest.fixture
def exported(tmp_path):
    """Export records; the trace as Perfetto's classes have it."""
    proto = needs.module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")

    def export(*records, **options):
        written(tmp_path, *records, **options).export(tmp_path / "x.pftrace")
        trace = proto.Trace()
        trace.ParseFromString((tmp_path / "x.pftrace").read_bytes())
        whole = proto.Trace()
        for packet in trace.packet:
            assert packet.compressed_packets and len(packet.ListFields()) == 1
            whole.MergeFromString(zlib.decompress(packet.compressed_packets))
        return Reader(whole, proto)

    return export


class Reader:
    """Follows the numbers of a trace to what they stand for, as trace_processor does."""

    def __init__(self, trace, proto):
        self.packets = list(trace.packet)
        self.kinds = proto.TrackEvent.Type
        self.tracks, self.events = {}, []
        names = {}
        for packet in self.packets:
            assert packet.trusted_packet_sequence_id == 1
            for kind in ("event_categories", "event_names", "debug_annotation_names", "source_locations"):
                for one in getattr(packet.interned_data, kind):
                    assert names.setdefault((kind, one.iid), one) is one
            if packet.HasField("track_descriptor"):
                self.tracks[packet.track_descriptor.uuid] = packet.track_descriptor
            if packet.HasField("track_event"):
                assert packet.sequence_flags == 2 and packet.track_event.track_uuid in self.tracks
                self.events.append(self._event(packet, names))

    def _event(self, packet, names):
        event = packet.track_event
        name = names["event_names", event.name_iid].name if event.name_iid else event.name
        categories = [names["event_categories", one].name for one in event.category_iids]
        args = {names["debug_annotation_names", one.name_iid].name: value(one) for one in event.debug_annotations}
        place = names["source_locations", event.source_location_iid] if event.source_location_iid else None
        kind = self.kinds.Name(event.type).removeprefix("TYPE_")
        return kind, packet.timestamp - ORIGIN, event.track_uuid, name, categories, args, place


def value(annotation):
    if annotation.array_values:
        return [value(one) for one in annotation.array_values]
    if annotation.dict_entries:
        return {one.name: value(one) for one in annotation.dict_entries}
    which = annotation.WhichOneof("value")
    return getattr(annotation, which) if which else None


def test_the_first_packet_begins_a_sequence_and_sets_the_clocks(exported):
    first = exported((1, "tick", TICK)).packets[0]
    assert first.sequence_flags == 1 and first.first_packet_on_sequence
    assert [(clock.clock_id, clock.timestamp) for clock in first.clock_snapshot.clocks] == [(1, ORIGIN), (128, ORIGIN)]
    assert first.clock_snapshot.primary_trace_clock == 1 and first.trace_packet_defaults.timestamp_clock_id == 128


def test_an_instant_has_time_place_and_arguments(exported):
    found = exported((1_234_567, "tick", TICK), env={"vpid": PID, "procname": "shop"})
    ((kind, time, track, name, categories, args, _),) = found.events
    assert (kind, time, name, categories) == ("INSTANT", 1_234_567, "tick", ["event"])
    assert args == {"n": 1, "x": 0.5, "data": "00ff", "text": "t", "many": [1, 2], "on": True, "low": -1}
    thread = found.tracks[track]
    assert (thread.thread.pid, thread.thread.tid) == (PID, TID)
    process = found.tracks[thread.parent_uuid]
    assert (process.process.pid, process.process.process_name) == (PID, "shop")


def test_extreme_values(exported):
    numbers = [0, 127, 128, 2**63 - 1, 2**63, 2**64 - 1]
    found = exported(
        *[(n + 1, "tick", [value_, -0.0, b"", b"a\xff", [], False, -128]) for n, value_ in enumerate(numbers)]
    )
    assert [event[5]["n"] for event in found.events] == numbers
    assert {event[5]["low"] for event in found.events} == {-128}
    assert {event[5]["text"] for event in found.events} == {"a\ufffd"}


def test_names_are_explained_once(exported):
    found = exported(*[(n, "tick", TICK) for n in range(1, 50)])
    assert sum(len(packet.interned_data.event_names) for packet in found.packets) == 1
    assert sum(packet.HasField("interned_data") for packet in found.packets) == 1


def test_messages_are_not_kept_as_names(exported):
    found = exported(*[(n, "log", [20, "shop", f"message {n}", "f", 1, "g", ""]) for n in range(1, 5)])
    assert [event[3] for event in found.events] == [f"message {n}" for n in range(1, 5)]
    assert not any(packet.interned_data.event_names for packet in found.packets)
    assert found.events[0][5]["level"] == "INFO"


def test_calls_know_where_they_are_defined(exported):
    code = (0, "function_code", [3, "pay", "shop.py", 12])
    begin, end = exported(code, (1, "function_begin", [3]), (3, "function_end", [3])).events
    assert (begin[0], begin[1], begin[3]) == ("SLICE_BEGIN", 1, "pay")
    assert (begin[6].file_name, begin[6].function_name, begin[6].line_number) == ("shop.py", "pay", 12)
    assert (end[0], end[1], end[2]) == ("SLICE_END", 3, begin[2])


def test_spans_are_on_tracks_below_their_thread(exported):
    records = [(1, "web", [1, 0]), (2, "db", [2, 0, "t"]), (4, "span_end", [1, ""]), (5, "span_end", [2, "boom"])]
    found = exported(*records)
    web, db, web_end, db_end = found.events
    assert web[2] == web_end[2] != db[2] == db_end[2]
    for track in (web[2], db[2]):
        assert found.tracks[track].name == "spans"
        assert found.tracks[found.tracks[track].parent_uuid].thread.tid == TID
    assert db[5] == {"span_id": 2, "parent_id": 0, "table": "t"} and db_end[5] == {"error": "boom"}


def test_cpus_are_tracks_by_name(exported):
    found = exported((1, "tick", TICK), contexts="")
    assert found.tracks[found.events[0][2]].name == "CPU 0"


@pytest.mark.parametrize("number", [0, 1, 127, 128, 300, 2**32, 2**64 - 1, -1, -(2**63)])
def test_varints_round_trip(number):
    encoded = perfetto.varint(number)
    assert sum((byte & 0x7F) << 7 * i for i, byte in enumerate(encoded)) == number % 2**64
    assert all(byte & 0x80 for byte in encoded[:-1]) and not encoded[-1] & 0x80
    assert len(encoded) == max(1, -(-(number % 2**64).bit_length() // 7))


def test_structures_are_dictionaries():
    proto = needs.module("perfetto.protos.perfetto.trace.perfetto_trace_pb2")
    annotation = proto.DebugAnnotation()
    annotation.ParseFromString(perfetto._value({"a": 1, "b": [True, {"c": "x"}]}))
    assert value(annotation) == {"a": 1, "b": [True, {"c": "x"}]}


def test_what_was_counted_is_a_counter_track(exported):
    fields = "metric_kind:str,metric_unit:str,metric_rest:bool,metric_value:u64"
    records = [
        (1, "metric:hits", ["counter", "clicks", False, 3]),
        (2, "metric:hits", ["counter", "clicks", False, 2**63]),
    ]
    found = exported(*records, contexts="", schemas={"metric:hits": fields})
    (track,) = (one for one in found.tracks.values() if one.HasField("counter"))
    assert (track.name, track.counter.unit_name) == ("hits", "clicks")
    values = [packet.track_event for packet in found.packets if packet.track_event.type == found.kinds.TYPE_COUNTER]
    assert [one.counter_value or one.double_counter_value for one in values] == [3, 2.0**63]
