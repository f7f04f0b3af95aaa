"""One object of every kind, for those who want to see them go."""

from rings import tracer

import ringbuf


def everything(directory, name):
    """One object of every kind, all of one channel, in use."""
    made = tracer(name, contexts=("vtid", ("x", "u8", lambda: 1)), wakeup="writer")
    event = made.event("event", n="u8", _contexts=(("y", "u8", lambda: 2),))
    event(1)
    made.channel.flush()
    event(2)
    reader = made.channel.reader()
    reader.fileno()
    packet = reader.next(0)
    records = reader.records()
    slot = made.channel.reserve(10)
    other = tracer(name)
    other.event("event", n="u8")(1)
    return {
        "tracer": made, "channel": made.channel, "event": event, "reader": reader, "packet": packet,
        "view": memoryview(packet), "records": records, "snapshot": iter([]), "slot": slot, "payload": slot.payload,
        "stream": made.channel.streams[0], "attached": ringbuf.attach(made.channel), "stats": made.stats(),
        "recorder": other.record(directory), "iteration": iter(reader), "bound": made.channel.write,
    }  # fmt: skip
