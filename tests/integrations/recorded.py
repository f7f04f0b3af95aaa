"""What a tracer has recorded, as its trace says it. Shared by the tests of this room."""

import ringbuf


def of(tracer, directory):
    """Spans, by name and fields: (name, fields, name of the parent or "", error, names it follows); and the other
    records, by event: fields."""
    tracer.snapshot(directory)
    with ringbuf.open_trace(directory) as trace:
        pairs = sorted(trace.spans(), key=lambda one: one.begin) if any(map(is_span, trace.event_classes)) else []
        names = {one.id: one.name for one in pairs}
        spans = [
            (one.name, one.fields, names.get(one.parent, ""), one.error, [names.get(each) for each in one.follows])
            for one in pairs
        ]
        records = {}
        for record in trace:
            records.setdefault(record.name, []).append(record.fields)
    return spans, records


def is_span(event):
    return [one.name for one in event.fields[:2]] == ["span_id", "parent_id"]
