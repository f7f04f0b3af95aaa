"""Prints a trace as JSON lines, [kind, message], for judge.py. Run by the Python that can `import bt2`."""

import json
import sys

import bt2


def main(directory):
    packets = {}  # the open packet of each stream
    readers = {}  # of each event class; asking bt2 for classes anew at every event would take most of the time
    for message in bt2.TraceCollectionMessageIterator(directory):
        if isinstance(message, bt2._EventMessageConst):
            event = message.event
            stream = stream_of(event.stream)
            key = stream[0], event.id
            if key not in readers:
                readers[key] = EventReader(event.cls)
            packet = packets.get(stream, {"cpu": None, "context": {}, "events": 0})
            packet["events"] += 1
            emit("events", readers[key].read(message, event, stream, packet))
        elif isinstance(message, bt2._PacketBeginningMessageConst):
            stream = stream_of(message.packet.stream)
            context = message.packet.context_field
            context = reader_of(context.cls)(context) if context is not None else {}
            packets[stream] = {
                "stream": stream,
                "cpu": context.get("cpu_id"),
                "begin_ns": ns_of(message, "default_clock_snapshot"),
                "context": context,
                "events": 0,
            }
        elif isinstance(message, bt2._PacketEndMessageConst):
            packet = packets.pop(stream_of(message.packet.stream))
            emit("packets", {**packet, "end_ns": ns_of(message, "default_clock_snapshot")})
        elif isinstance(message, bt2._DiscardedEventsMessageConst):
            emit("discarded_events", loss_of(message))
        elif isinstance(message, bt2._DiscardedPacketsMessageConst):
            emit("discarded_packets", loss_of(message))


def emit(kind, message):
    sys.stdout.write(json.dumps([kind, message]) + "\n")


class EventReader:
    """Reads the events of one class."""

    def __init__(self, cls):
        self.name, self.id = cls.name, cls.id
        self.has_clock = bool(cls.stream_class.default_clock_class)
        self.fields = reader_of(cls.payload_field_class)
        self.stream_context = reader_of(cls.stream_class.event_common_context_field_class)
        self.event_context = reader_of(cls.specific_context_field_class)
        members = cls.payload_field_class.items() if cls.payload_field_class is not None else ()
        self.enumerations = [
            name for name, member in members if isinstance(member.field_class, bt2._EnumerationFieldClassConst)
        ]

    def read(self, message, event, stream, packet):
        clock = message.default_clock_snapshot if self.has_clock else None
        payload = event.payload_field
        return {
            "name": self.name,
            "id": self.id,
            "ns": clock and clock.ns_from_origin,
            "ticks": clock and clock.value,
            "cpu": packet["cpu"],
            "stream": stream,
            "fields": self.fields(payload),
            "contexts": {
                "packet": packet["context"],
                "stream": self.stream_context(event.common_context_field),
                "event": self.event_context(event.specific_context_field),
            },
            "labels": {name: list(payload[name].labels) for name in self.enumerations},
        }


def reader_of(cls):
    """A function that makes a field of this class what JSON has; {} where a trace has no such field."""
    if cls is None:
        return lambda field: {}
    if isinstance(cls, bt2._StructureFieldClassConst):
        members = [(name, reader_of(member.field_class)) for name, member in cls.items()]
        return lambda field: {name: read(field[name]) for name, read in members}
    if isinstance(cls, bt2._ArrayFieldClassConst):
        read = reader_of(cls.element_field_class)
        return lambda field: [read(element) for element in field]
    if isinstance(cls, bt2._VariantFieldClassConst):
        return lambda field: read_any(field.selected_option)
    if isinstance(cls, bt2._OptionFieldClassConst):
        return lambda field: read_any(field.field)
    for kind, plain in (
        (bt2._StringFieldClassConst, str),
        (bt2._BoolFieldClassConst, bool),
        (bt2._IntegerFieldClassConst, int),
        (bt2._RealFieldClassConst, float),
    ):
        if isinstance(cls, kind):
            return plain
    raise TypeError(f"a field of class {type(cls).__name__}")


def read_any(field):
    return None if field is None else reader_of(field.cls)(field)


def stream_of(stream):
    return stream.cls.id, stream.id


def loss_of(message):
    return {
        "stream": stream_of(message.stream),
        "count": message.count,
        "begin_ns": ns_of(message, "beginning_default_clock_snapshot"),
        "end_ns": ns_of(message, "end_default_clock_snapshot"),
    }


def ns_of(message, which):
    try:
        return getattr(message, which).ns_from_origin
    except ValueError:  # the trace has no clock
        return None


main(sys.argv[1])
