"""Does our reader say the same of a trace as babeltrace2? Shared by the tests of the format."""

import judge

from ringbuf.trace import trace


def assert_agrees(directory, judged=None, **options):
    """Compare everything both can tell: events in order with times and values, packets, losses. Our records.

    `judged`: what judge.read says of the directory, if it was asked already.
    """
    judged = judged or judge.read(directory)
    opened = trace.open_trace(directory, **options)
    records = list(opened)
    assert [head(record) for record in records] == [judged_head(event) for event in judged.events]
    for record, event in zip(records, judged.events, strict=True):
        contexts = {**event["contexts"]["stream"], **event["contexts"]["event"]}
        assert_same(record.fields, shown(event["fields"], event["labels"], record.fields))
        labels = labels_of(opened.events[record.name].contexts, contexts)
        assert_same(record.contexts, shown(contexts, labels, record.contexts))
    packets = sorted((packet.begin, packet.end, packet.cpu) for packet in opened.packets)
    assert packets == sorted((packet["begin_ns"], packet["end_ns"], packet["cpu"]) for packet in judged.packets)
    assert opened.lost.events == total(judged.discarded_events)
    assert opened.lost.packets == total(judged.discarded_packets)
    is_told = any(loss["count"] is None for loss in judged.discarded_events)
    assert is_told == (bool(opened.lost.events_before) and judge.version() < (2, 1))
    assert judged.warnings == ""
    return records


def assert_same(ours, judged):
    # babeltrace2 before 2.0.5 gives an empty string the value of the string before it.
    judged = {name: "" if ours.get(name) == "" and isinstance(value, str) else value for name, value in judged.items()}
    assert plain(ours) == judged


def labels_of(fields, values):
    """Labels that fit the values; the judge gives them for fields, but not for contexts."""
    # An event's own context hides one of its stream that has the same name.
    kinds = {field.name: field.labels for field in fields}
    return {
        name: [label for label, (low, high) in labels.items() if low <= values[name] <= high]
        for name, labels in kinds.items()
        if labels
    }


def head(record):
    assert record.timestamp == record.time_ns
    return record.name, record.event_id, record.time_ns, record.ticks, record.cpu


def judged_head(event):
    return event["name"], event["id"], event["ns"], event["ticks"], event["cpu"]


def total(losses):
    return sum(loss["count"] or 0 for loss in losses)


def plain(value):
    """Our values as babeltrace2 gives them."""
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, str):
        # babeltrace2 does not know that C0 80 is U+0000.
        return value.replace("\0", "\udcc0\udc80")
    if isinstance(value, list):
        return [plain(one) for one in value]
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    return value


def shown(fields, labels, ours=None):
    """The fields of babeltrace2 without those that only help to read others; enumerations by label, by ours if it is
    one of several: the judge's versions have them in different orders."""
    hidden = set()
    for name, value in fields.items():
        if isinstance(value, list):
            helpers = (f"_{name}_{kind}" for kind in ("length", "tag", "align"))
            hidden |= {one for helper in helpers for one in fields if one.rstrip("_") == helper}
    named, ours = {}, ours or {}
    for name, value in fields.items():
        fit = labels.get(name) or [value]
        named[name] = ours.get(name) if ours.get(name) in fit else fit[0]
    return {name: value for name, value in named.items() if name not in hidden}
