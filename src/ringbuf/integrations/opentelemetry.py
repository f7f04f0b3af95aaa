"""OpenTelemetry: its spans in the ring, and the last moments of a trace that was slow or failed on disk.

    provider.add_span_processor(ringbuf.integrations.opentelemetry.RingbufSpanProcessor(tracer, "incidents", slow=0.5))

Each span is one here, of its name, with its ids: ``span_id`` and ``parent_id`` are OpenTelemetry's, ``trace_id`` 32
hexadecimal digits. It ends with its error if its status is one. Spans that are not sampled are not recorded.
"""

from __future__ import annotations

import threading

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import StatusCode

from ..texts import encodable
from . import tracer_or_default

__all__ = ["RingbufSpanProcessor"]

_NAMES = 500  # that get an event of their own: events are stored for good, and a name may be a URL
_OTHER = "span"


class RingbufSpanProcessor(SpanProcessor):
    """See the module.

    Parameters
    ----------
    tracer : Tracer
    directory : str or os.PathLike, optional
        Where snapshots go, each named by the trace's id: as `Tracer.watch`, which has the next three.
    slow : float or None
        A local root (a span without a parent, or with one in another process) that takes longer, in seconds, has a
        snapshot taken; so does one that ends with an error.
    last, at_most, keep
        As for `Tracer.watch`.

    Raises as `Tracer.watch`. Thread safety: any thread.
    """

    def __init__(
        self,
        tracer=None,
        directory=None,
        *,
        slow: float | None = None,
        last: float | None = 10.0,
        at_most="1/min",
        keep=20,
    ) -> None:
        self._tracer = tracer_or_default(tracer)
        self._slow_ns = None if slow is None else round(slow * 1e9)
        self._begins: dict = {}
        self._end = self._tracer.event("span_end", span_id="u64", error="str")
        self._lock = threading.Lock()
        self._begin(_OTHER)
        self._watch = None
        if directory is not None:
            self._watch = self._tracer.watch(directory, None, last=last, at_most=at_most, keep=keep)

    def _begin(self, name: str):
        found = self._begins.get(name)
        if found is None:
            with self._lock:
                if len(self._begins) >= _NAMES:
                    return self._begins[_OTHER]
                found = self._tracer.event(name, span_id="u64", parent_id="u64", name="str", trace_id="str", kind="str")
                self._begins[name] = found
        return found

    def on_start(self, span, parent_context=None) -> None:
        """Record the begin."""
        context = span.get_span_context()
        parent = span.parent.span_id if span.parent is not None else 0
        name = encodable(span.name)
        try:
            begin = self._begin(name)
        except (ValueError, OSError):  # no name for an event, or no room for one more
            begin = self._begins[_OTHER]
        begin(context.span_id, parent, name, f"{context.trace_id:032x}", span.kind.name.lower())

    def on_end(self, span: ReadableSpan) -> None:
        """Record the end; if it was a local root, slow or failed, have a snapshot taken."""
        context = span.get_span_context()
        failed = span.status.status_code is StatusCode.ERROR
        error = encodable(span.status.description or "ERROR") if failed else ""
        self._end(context.span_id, error)
        if self._watch is not None and (span.parent is None or span.parent.is_remote):
            took = (span.end_time or 0) - (span.start_time or 0)
            if failed or (self._slow_ns is not None and took > self._slow_ns):
                why = f"failed: {error}" if failed else f"took {took / 1e9:.6f} s"
                self._watch.fire(f"{context.trace_id:032x}", f"{span.name} {why}")

    def shutdown(self) -> None:
        """No more snapshots."""
        if self._watch is not None:
            self._watch.close()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        """Snapshots that were begun are written."""
        return self._watch is None or self._watch.wait(timeout_millis / 1000)
