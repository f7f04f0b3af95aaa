"""Counters, gauges and histograms: declared, counted by threads and processes that may die, and read."""

import enum
import gc
import math
import multiprocessing
import os
import signal
import threading

import pytest

import ringbuf
from ringbuf import metrics

FORK = multiprocessing.get_context("fork")


class Method(enum.Enum):
    GET = 1
    PUT = 2


@pytest.fixture
def tracer():
    with ringbuf.Tracer("shop") as tracer:
        yield tracer


def values(target, name, **options):
    """Label values -> value, of one metric."""
    (metric,) = (one for one in metrics.read(target, **options) if one.name == name)
    return {tuple(one.labels.values()): one.value for one in metric.series}


def run(function, *args):
    child = FORK.Process(target=function, args=args)
    child.start()
    child.join()
    return child.exitcode


def test_a_counter_counts(tracer):
    hits = tracer.counter("hits", "clicks", help="of everybody")
    hits()
    hits(3)
    hits(0)
    assert hits.value == 4
    assert (hits.name, hits.unit) == ("hits", "clicks")
    assert tracer.counter("hits", "clicks").value == 4
    assert values(tracer, "hits") == {(): 4}


def test_a_counter_may_be_of_floats(tracer):
    busy = tracer.counter("busy", "s", real=True)
    busy(0.25)
    busy(2)
    busy()
    assert busy.value == 3.25


@pytest.mark.parametrize(
    "n, error", [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (None, None), (2**64, OverflowError)]
)
def test_what_cannot_be_counted_is_refused(tracer, n, error):
    hits = tracer.counter("hits")
    if error is None:
        hits(n)  # None is what is left out
        assert hits.value == 1
        return
    with pytest.raises(error):
        hits(n)
    assert hits.value == 0


def test_large_numbers_are_counted(tracer):
    hits = tracer.counter("hits")
    hits(2**63)
    hits(2**63 - 1)
    assert hits.value == 2**64 - 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -1.0])
def test_floats_that_would_spoil_a_sum_are_refused(tracer, value):
    busy, sizes, gauge = tracer.counter("busy", real=True), tracer.histogram("sizes"), tracer.gauge("gauge")
    with pytest.raises(ValueError):
        busy(value)
    if value != -1.0:
        with pytest.raises(ValueError, match="is not finite"):
            sizes(value)
        with pytest.raises(ValueError, match="is not finite"):
            gauge.add(value)
    assert (busy.value, sizes.count, gauge.value) == (0, 0, 0)


def test_labels_are_given_in_order_or_by_name(tracer):
    requests = tracer.counter("requests", method=Method, path="str", cached="bool", status="u16")
    requests.labels(Method.GET, "/", True, 200)()
    requests.labels(Method.GET, "/", cached=True, status=200)(2)
    requests.labels(status=404, method=2, cached=False, path='/\n"é')()
    assert values(tracer, "requests") == {("GET", "/", True, 200): 3, ("PUT", '/\n"é', False, 404): 1}
    assert requests.labels(Method.GET, "/", True, 200) is requests.labels(Method.GET, "/", True, 200)


@pytest.mark.parametrize(
    "given, error",
    [
        (("/", 65536), ValueError), (("/", -1), ValueError), (("/", "200"), TypeError), ((1, 200), TypeError),
        (("/",), TypeError), (("/", 200, 1), TypeError), (("\ud800", 200), UnicodeEncodeError),
    ],
)  # fmt: skip
def test_wrong_labels_are_refused(tracer, given, error):
    requests = tracer.counter("requests", path="str", status="u16")
    with pytest.raises(error):
        requests.labels(*given)
    with pytest.raises(TypeError, match="takes the labels path, status"):
        requests.labels(path="/", code=200)
    with pytest.raises(TypeError, match="has labels"):
        requests()
    assert values(tracer, "requests") == {}


@pytest.mark.parametrize(
    "name, labels, error",
    [
        ("a b", {}, ValueError), ("", {}, ValueError), ("a", {"x": "f64"}, ValueError),
        ("a", {"le": "str"}, ValueError), ("a", {"metric_value": "str"}, ValueError), ("a", {"x": "text"}, ValueError),
        ("a", {"x": 1}, TypeError), ("a", {"x": "u8[]"}, ValueError),
    ],
)  # fmt: skip
def test_what_cannot_be_declared_is_refused(tracer, name, labels, error):
    with pytest.raises(error):
        tracer.counter(name, **labels)
    assert metrics.read(tracer) == []


def test_one_name_is_one_thing(tracer):
    tracer.counter("a")
    for declare in (lambda: tracer.gauge("a"), lambda: tracer.counter("a", "s"), lambda: tracer.counter("a", x="str")):
        with pytest.raises(ValueError, match="there is a metric 'a' already"):
            declare()


def test_a_gauge_is_set_and_changed(tracer):
    queue = tracer.gauge("queue", "items")
    queue.add(5)
    queue(17)
    queue.add(-2)
    queue.add(0.5)
    assert queue.value == 15.5
    queue(float("inf"))
    queue(3)
    assert queue.value == 3
    with pytest.raises(TypeError, match="takes a value"):
        queue()


def test_a_histogram_counts_by_size(tracer):
    sizes = tracer.histogram("sizes", "bytes", buckets=(1, 10, 100))
    for value in (0, 1, 2, 10, 11, 1000):
        sizes(value)
    assert sizes.bounds == (1.0, 10.0, 100.0)
    assert sizes.counts == [2, 2, 1, 1]
    assert (sizes.count, sizes.sum) == (6, 1024.0)


@pytest.mark.parametrize("buckets", [(), (2, 1), (1, 1), (float("nan"),), ("a",)])
def test_buckets_ascend(tracer, buckets):
    with pytest.raises(ValueError):
        tracer.histogram("sizes", buckets=buckets)


def test_a_bound_without_end_is_the_last_buckets_own(tracer):
    assert tracer.histogram("sizes", buckets=(1, 2, math.inf)).bounds == (1.0, 2.0)


@pytest.mark.parametrize(
    "unit, low, high", [("s", 1e-6, 100), ("ms", 1e-3, 1e5), ("bytes", 64, 2**32), ("", 1e-3, 1e7)]
)
def test_buckets_suit_the_unit(tracer, unit, low, high):
    bounds = tracer.histogram("sizes", unit).bounds
    assert (bounds[0], bounds[-1]) == (low, high)
    assert list(bounds) == sorted(bounds)


def test_a_block_is_timed(tracer):
    took = tracer.histogram("took", "ms", route="str")
    with took.labels("/").time():
        pass
    with pytest.raises(ZeroDivisionError), took.labels("/").time():
        raise ZeroDivisionError
    assert took.labels("/").count == 2
    assert 0 < took.labels("/").sum < 1000
    with pytest.raises(TypeError, match="has labels"):
        took.time()
    with pytest.raises(ValueError, match="no time"):
        tracer.histogram("sizes", "bytes").time()


def test_a_closed_channel_is_not_counted_in(tracer):
    hits, sizes, queue = tracer.counter("hits"), tracer.histogram("sizes", "s"), tracer.gauge("queue")
    with sizes.time():
        tracer.close()  # the block does not fail for it
    for count in (hits, lambda: sizes(1), lambda: queue(1), lambda: queue.add(1), lambda: hits.value):
        with pytest.raises(ValueError, match="closed"):
            count()
    with pytest.raises(ValueError, match="closed"):
        tracer.counter("more")


def test_none_comes_of_itself_or_pickles(tracer):
    import pickle

    with pytest.raises(TypeError, match="comes from a Tracer"):
        ringbuf.Counter()
    with pytest.raises(TypeError, match="does not pickle"):
        pickle.dumps(tracer.counter("hits"))


def test_what_finds_no_room_is_counted_with_the_rest():
    with ringbuf.Tracer("small", metrics_size=4096) as tracer:
        users = tracer.counter("users", user="str")
        for n in range(1200):
            users.labels(f"user {n}")(2)
        (metric,) = metrics.read(tracer)
        (rest,) = (one for one in metric.series if one.is_rest)
        assert rest.labels == {}
        assert rest.value > 2000
        assert sum(one.value for one in metric.series) == 2400
        with pytest.raises(OSError, match="metrics_size"):
            tracer.counter("a" * 1000)


# ---- many ----


def test_threads_lose_nothing(tracer):
    hits, busy = tracer.counter("hits"), tracer.counter("busy", real=True)

    def count():
        for _ in range(20_000):
            hits()
            busy(0.5)

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (hits.value, busy.value) == (80_000, 40_000)


def count_and_die(tracer, n, how):
    hits, sizes = tracer.counter("hits", who="u32"), tracer.histogram("sizes", buckets=(1, 2))
    for i in range(n):
        hits.labels(n)()
        sizes(i % 3)
    os.kill(os.getpid(), how)


def test_the_counts_of_the_killed_are_there(tracer):
    for n in (30, 300, 3000):
        assert run(count_and_die, tracer, n, signal.SIGKILL) == -signal.SIGKILL
    assert values(tracer, "hits") == {(n,): n for n in (30, 300, 3000)}
    assert values(tracer, "sizes") == {(): 3330}
    (_, sizes) = metrics.read(tracer)
    assert sizes.series[0].counts == [2220, 1110, 0]


def test_a_tracer_that_was_sent_counts_the_same():
    with ringbuf.Tracer("sent") as tracer:
        tracer.counter("hits", who="u32").labels(7)()
        spawn = multiprocessing.get_context("spawn")
        child = spawn.Process(target=count_and_die, args=(tracer, 7, signal.SIGKILL))
        child.start()
        child.join()
        assert values(tracer, "hits") == {(7,): 8}


def test_a_gauge_of_each_process_goes_with_it(tracer):
    memory = tracer.gauge("memory", "bytes", per="process", kind="str")
    own = memory.labels("rss")
    own(100)
    ready, end = FORK.Event(), FORK.Event()

    def child():
        own(200)  # the same object: a forked child has its own
        ready.set()
        end.wait()

    process = FORK.Process(target=child)
    process.start()
    ready.wait()
    (metric,) = metrics.read(tracer)
    assert {one.pid: one.value for one in metric.series} == {os.getpid(): 100, process.pid: 200}
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    gc.collect()  # of what other tests have left: the number of a process names its only channel
    for target in (tracer, os.getpid()):
        (metric,) = metrics.read(target)
        assert {one.pid: one.value for one in metric.series} == {os.getpid(): 100}
    (metric,) = metrics.read(tracer, gone=True)
    assert {one.pid: one.value for one in metric.series} == {os.getpid(): 100, process.pid: 200}
    assert own.value == 100


def test_processes_that_come_and_go_take_no_more_room(tracer):
    memory = tracer.gauge("memory", "bytes", per="process")
    for n in range(20):
        assert run(memory, n) == 0
    (metric,) = metrics.read(tracer, gone=True)
    assert len(metric.series) == 1


def test_others_look_without_a_right_to_write(tmp_path):
    with ringbuf.Tracer("shop", path=tmp_path / "ring") as tracer:
        tracer.counter("hits")(5)
        tracer.gauge("memory", per="process")(1)
        (tmp_path / "ring").chmod(0o400)
        assert values(tmp_path / "ring", "hits") == {(): 5}
        assert values(tmp_path / "ring", "memory") == {(): 1}
    assert values(tmp_path / "ring", "hits") == {(): 5}
