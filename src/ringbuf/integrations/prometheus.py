"""prometheus_client's metrics, kept in a channel: in the place of its multi-process mode.

    ringbuf.integrations.prometheus.install(tracer)     # before the first metric is made

Then a program that counts with prometheus_client counts into the channel, as all processes do that have it, and
`ringbuf.metrics.wsgi_app(tracer)`, `asgi_app` and ``ringbuf metrics`` show it: names, types, labels and the
`multiprocess_mode` of gauges are as they were declared. A gauge of each process goes when its process does: "live" is
what all modes mean. Exemplars are not kept, as in the multi-process mode.
"""

from __future__ import annotations

from prometheus_client import values

from ..metrics import declare

__all__ = ["install"]


def install(tracer) -> None:
    """Keep what is counted with prometheus_client from now on in the tracer's channel.

    Metrics that were made before stay where they are. Thread safety: once, before other threads count.
    """
    values.ValueClass = _value_class(tracer)


def _value_class(tracer) -> type:
    class Value:
        """A float of prometheus_client's, in the channel."""

        _multiprocess = True

        def __init__(self, typ, metric_name, name, labelnames, labelvalues, help_text, multiprocess_mode="", **_):
            per_process = typ == "gauge" and not multiprocess_mode.endswith("mostrecent")
            unit = f"prometheus:{typ}:{metric_name}:{multiprocess_mode.removeprefix('live')}"
            gauge = declare.foreign(tracer.channel, name, unit, help_text, tuple(labelnames), per_process)
            self._gauge = gauge.labels(*labelvalues)

        def inc(self, amount) -> None:
            self._gauge.add(amount)

        def set(self, value, timestamp=None) -> None:
            self._gauge(value)

        def get(self) -> float:
            return self._gauge.value

        def set_exemplar(self, exemplar) -> None:
            pass

        def get_exemplar(self) -> None:
            pass

    return Value
