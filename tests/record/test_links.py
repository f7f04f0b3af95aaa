"""Links: spans that follow from others, through queues, pools and sockets; in pairs, flows and exports."""

import multiprocessing
import queue
import socket
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import timelines

import ringbuf

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def tracer():
    with ringbuf.Tracer("links", mode="discard") as tracer:
        yield tracer


def spans_of(tracer, directory):
    """Name -> Pair; and the links as pairs of names."""
    tracer.snapshot(directory)
    with ringbuf.open_trace(directory) as trace:
        pairs = {one.name: one for one in trace.spans()}
        names = {one.id: one.name for one in pairs.values()}
        followed = {name: [names[source] for source in one.follows] for name, one in pairs.items() if one.follows}
        assert [(names[one.source], names[one.target]) for one in trace.flows()] == [
            (source, name) for name, sources in followed.items() for source in sources
        ]
    return followed


def test_through_a_queue_and_threads(tracer, tmp_path):
    jobs = queue.Queue()

    def work():
        link = jobs.get()
        with tracer.span("work"):
            assert tracer.follow(link)

    worker = threading.Thread(target=work)
    worker.start()
    with tracer.span("put", order=7) as span:
        jobs.put(span.link())
    worker.join()
    assert spans_of(tracer, tmp_path / "trace") == {"work": ["put"]}


def work_in_process(tracer, jobs):
    link = jobs.get()
    with tracer.span("work"):
        tracer.follow(link)


def test_through_a_queue_of_processes(tracer, tmp_path):
    jobs = SPAWN.Queue()
    child = SPAWN.Process(target=work_in_process, args=(tracer, jobs))
    child.start()
    with tracer.span("put") as span:
        jobs.put(span.link())
    child.join()
    assert child.exitcode == 0
    assert spans_of(tracer, tmp_path / "trace") == {"work": ["put"]}


def square(n):
    return n * n


def test_through_pools(tracer, tmp_path):
    with ThreadPoolExecutor(1) as threads, ProcessPoolExecutor(1, SPAWN) as processes:
        with tracer.span("submit"):
            here = threads.submit(tracer.linked(square), 3)
            there = processes.submit(tracer.linked(square, name="there"), 4)
        assert (here.result(), there.result()) == (9, 16)
    assert spans_of(tracer, tmp_path / "trace") == {f"{__name__}.square": ["submit"], "there": ["submit"]}


def test_through_a_socket_as_a_header(tracer, tmp_path):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        with tracer.span("request") as span:
            ours.sendall(b"X-Link: %d" % span.link())
        with tracer.span("answer"):
            assert tracer.follow(theirs.recv(100).removeprefix(b"X-Link: "))
    assert spans_of(tracer, tmp_path / "trace") == {"answer": ["request"]}


def test_one_may_follow_from_several(tracer, tmp_path):
    links = []
    for name in "ab":
        with tracer.span(name) as span:
            links.append(span.link())
    with tracer.span("batch"):
        assert all([tracer.follow(str(link)) for link in links])
    assert spans_of(tracer, tmp_path / "trace") == {"batch": ["a", "b"]}


@pytest.mark.parametrize("link", [0, -1, 2**64, "", "x", "12 ", "-1", "9" * 21, b"\xff", "١"])
def test_what_is_no_link_is_not_followed(tracer, tmp_path, link):
    with tracer.span("work"):
        assert tracer.follow(link) is False
    assert spans_of(tracer, tmp_path / "trace") == {}


def test_without_a_span_there_is_nothing_to_follow(tracer):
    with tracer.span("a") as span:
        assert tracer.follow(span.link()) is False  # itself
    assert tracer.follow(span.link()) is False
    with tracer.span("b"), pytest.raises(TypeError, match="a link is"):
        tracer.follow(1.5)


def test_time_lines_have_arrows(tmp_path):
    schemas = timelines.SCHEMAS | {"span_link": "span_id:u64,link:u64"}
    records = [
        (1, "web", [1, 0]), (2, "span_end", [1, ""]), (3, "web", [2, 0], 8), (4, "span_link", [2, 1], 8),
        (5, "span_end", [2, ""], 8),
    ]  # fmt: skip
    trace = timelines.written(tmp_path, *records, schemas=schemas)
    assert [(one.time - timelines.ORIGIN, one.source, one.target) for one in trace.flows()] == [(4, 1, 2)]
    ((outgoing, []), ([], incoming)) = timelines.notes(trace).flows
    assert outgoing == incoming and len(outgoing) == 1
    assert [one[0] for one in timelines.notes(trace).told] == ["begin", "end", "begin", "end"]  # the link is no instant
