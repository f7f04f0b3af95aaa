"""OpenTelemetry's spans in the ring, and a snapshot of a trace that was slow or failed."""

import os
import time

import needs
import pytest
import recorded

import ringbuf


@pytest.fixture
def tracer():
    with ringbuf.Tracer("otel") as tracer:
        yield tracer


@pytest.fixture
def setting_up(tracer):
    """A function: an OpenTelemetry tracer whose spans are recorded, and the processor."""
    trace = needs.module("opentelemetry.sdk.trace")
    from ringbuf.integrations.opentelemetry import RingbufSpanProcessor

    made = []

    def set_up(*args, **options):
        provider = trace.TracerProvider()
        made.append(provider)
        processor = RingbufSpanProcessor(tracer, *args, **options)
        provider.add_span_processor(processor)
        return provider.get_tracer("shop"), processor

    yield set_up
    for provider in made:
        provider.shutdown()


def test_spans_have_their_ids(tracer, setting_up, tmp_path):
    otel, _ = setting_up()
    with otel.start_as_current_span("pay") as outer:
        with pytest.raises(KeyError), otel.start_as_current_span("charge"):
            raise KeyError("x")
    spans, _ = recorded.of(tracer, tmp_path / "trace")
    trace_id = f"{outer.get_span_context().trace_id:032x}"
    assert spans == [
        ("pay", {"name": "pay", "trace_id": trace_id, "kind": "internal"}, "", "", []),
        ("charge", {"name": "charge", "trace_id": trace_id, "kind": "internal"}, "pay", "KeyError", []),
    ]
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        assert outer.get_span_context().span_id in {one.id for one in trace.spans()}


def test_spans_that_overlap(tracer, setting_up, tmp_path):
    otel, _ = setting_up()
    first, second = otel.start_span("first"), otel.start_span("second")
    first.end()
    second.end()
    assert [one[0] for one in recorded.of(tracer, tmp_path / "trace")[0]] == ["first", "second"]


def test_names_without_end_share_one_event(tracer, setting_up, tmp_path):
    otel, _ = setting_up()
    for n in range(700):
        otel.start_span(f"GET /{n}").end()
    spans, _ = recorded.of(tracer, tmp_path / "trace")
    assert [fields["name"] for _, fields, *_ in spans] == [f"GET /{n}" for n in range(700)]
    assert len({name for name, *_ in spans}) == 500


def test_the_slow_and_the_failed_leave_a_snapshot_named_by_their_trace(tracer, setting_up, tmp_path):
    otel, processor = setting_up(tmp_path / "incidents", slow=0.05, at_most="10/min")
    begin = time.time_ns()
    otel.start_span("quick", start_time=begin).end(end_time=begin + 1000)
    with otel.start_as_current_span("slow") as slow, otel.start_as_current_span("inner"):
        time.sleep(0.06)
    assert processor.force_flush()
    with pytest.raises(KeyError), otel.start_as_current_span("failing") as failed:
        raise KeyError("x")
    assert processor.force_flush()
    ids = [f"{span.get_span_context().trace_id:032x}" for span in (slow, failed)]
    kept = sorted(name for name in os.listdir(tmp_path / "incidents") if not name.startswith("."))
    folders = [name for name in kept if (tmp_path / "incidents" / name).is_dir()]
    assert [name.rpartition("-")[2] for name in folders] == ids
    (where,) = [name for name in folders if ids[0] in name]
    places = [path.parent for path in (tmp_path / "incidents" / where).rglob("metadata")]
    with ringbuf.open_trace(places[0]) as trace:
        assert {one.fields["trace_id"] for one in trace.spans("slow")} == {ids[0]}


def test_what_is_not_sampled_is_not_recorded(tracer, setting_up):
    trace, sampling = needs.module("opentelemetry.sdk.trace"), needs.module("opentelemetry.sdk.trace.sampling")
    from ringbuf.integrations.opentelemetry import RingbufSpanProcessor

    provider = trace.TracerProvider(sampler=sampling.ALWAYS_OFF)
    provider.add_span_processor(RingbufSpanProcessor(tracer))
    before = tracer.stats().records_written
    provider.get_tracer("shop").start_span("pay").end()
    assert tracer.stats().records_written == before
