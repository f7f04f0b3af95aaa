"""Which span followed from which, where neither was within the other: `Tracer.follow`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from .meanings import meaning

__all__ = ["Flow", "flows"]


class Flow(NamedTuple):
    """One span followed from another one.

    Attributes
    ----------
    time : int
        When that was said, within the one that followed; nanoseconds since the Unix epoch.
    source, target : int
        The spans, by `Pair.id`. The source need not be in the trace.
    """

    time: int
    source: int
    target: int


def flows(trace, *, begin: int | None = None, end: int | None = None) -> Iterator[Flow]:
    """See `Trace.flows`."""
    ours = sorted({event.name for event in trace.event_classes if meaning(event) == "link"})
    if ours:
        for record in trace.records(ours, begin=begin, end=end):
            fields = record.fields
            if fields.keys() == {"span_id", "link"}:  # another event of the name has others
                yield Flow(record.timestamp, fields["link"], fields["span_id"])
