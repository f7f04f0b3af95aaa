"""Metrics as text: what Prometheus's own parsers read is what was counted."""

import math

import needs
import pytest

import ringbuf
from ringbuf import metrics
from ringbuf.metrics.exposition import exposition


@pytest.fixture
def tracer():
    with ringbuf.Tracer("shop") as tracer:
        yield tracer


def parsed(text, openmetrics):
    """Family name -> (kind, help, unit, {(sample name, labels): value})."""
    if openmetrics:
        parser = needs.module("prometheus_client.openmetrics.parser")
    else:
        parser = needs.module("prometheus_client.parser")
    families = {}
    for family in parser.text_string_to_metric_families(text):
        samples = {(one.name, tuple(sorted(one.labels.items()))): one.value for one in family.samples}
        families[family.name] = (family.type, family.documentation, family.unit, samples)
    return families


@pytest.mark.parametrize("openmetrics", [False, True])
def test_prometheus_reads_what_was_counted(tracer, openmetrics):
    tracer.counter("requests", help='of "clients"\n\\', path="str", status="u16").labels('/a"b\\\n', 200)(3)
    tracer.gauge("queue", "items")(1.5)
    tracer.gauge("odd")(math.inf)
    took = tracer.histogram("took", "s", buckets=(0.1, 1))
    for value in (0.05, 0.1, 0.5, 7):
        took(value)
    found = parsed(exposition([("shop", metrics.read(tracer))], openmetrics=openmetrics), openmetrics)
    kind, help, _, samples = found["requests"]
    assert (kind, help) == ("counter", 'of "clients"\n\\')
    assert samples == {("requests_total", (("path", '/a"b\\\n'), ("status", "200"))): 3}
    assert found["queue_items"][3] == {("queue_items", ()): 1.5}
    assert found["odd"][3] == {("odd", ()): math.inf}
    kind, _, unit, samples = found["took_seconds"]
    assert (kind, unit) == ("histogram", "seconds" if openmetrics else "")
    assert samples[("took_seconds_count", ())] == 4
    assert samples[("took_seconds_sum", ())] == pytest.approx(7.65)
    buckets = {labels[0][1]: value for (name, labels), value in samples.items() if name.endswith("_bucket")}
    assert buckets == {"0.1": 2, "1.0": 3, "+Inf": 4}


@pytest.mark.parametrize("openmetrics", [False, True])
def test_several_channels_are_told_apart(openmetrics):
    with ringbuf.Tracer("a") as a, ringbuf.Tracer("b") as b:
        a.counter("hits")(1)
        b.counter("hits")(2)
        b.gauge("hits2")(3)
        text = exposition([(one.name, metrics.read(one)) for one in (a, b)], openmetrics=openmetrics)
    (_, _, _, samples) = parsed(text, openmetrics)["hits"]
    assert samples == {("hits_total", (("channel", "a"),)): 1, ("hits_total", (("channel", "b"),)): 2}


def test_names_that_meet_stay_apart(tracer):
    tracer.gauge("size", "bytes")(1)
    tracer.counter("size_bytes")(2)
    found = parsed(exposition([("shop", metrics.read(tracer))]), False)
    assert found["size_bytes"][3] == {("size_bytes", ()): 1}
    assert found["size_bytes_"][3] == {("size_bytes__total", ()): 2}


def test_a_unit_that_the_name_has_is_not_there_twice(tracer):
    tracer.histogram("took_seconds", "s")
    tracer.counter("sent_bytes_total", "bytes")(2)
    text = exposition([("shop", metrics.read(tracer))])
    assert "sent_bytes_total 2\n" in text
    assert "took_seconds_seconds" not in text


def test_the_rest_and_processes_say_so():
    with ringbuf.Tracer("small", metrics_size=4096) as tracer:
        tracer.gauge("memory", per="process")(7)
        users = tracer.counter("users", user="str")
        for n in range(100):
            users.labels(f"user {n}")()
        text = exposition([("small", metrics.read(tracer))])
    assert 'memory{pid="' in text
    assert 'users_total{ringbuf_rest="1"} ' in text
