"""Events, spans, recorded calls and metrics for valgrind to count the instructions of: a callgrind part for each kind.

    calls.py COUNTER.so

callgrind counts within what COUNTED names alone (--toggle-collect), so that the interpreter's own do not matter.
"""

import ctypes
import sys

CALLS = 500

#: What is called by the interpreter: an event; a span that is made, entered and left; begin and end of a recorded call.
COUNTED = {
    "event": ["_call_event"],
    "metric": ["_call_counter", "_call_histogram"],
    "span": ["_call_span_type", "_enter_span", "_exit_span"],
    "call": ["_begin_call", "_end_call", "_profile"],
}


def main(counter):
    import ringbuf
    from ringbuf.record.functions import Functions

    begin, end = counter.begin_part, counter.end_part
    # global: valgrind's threads have no restartable sequences, and the C library's answer costs what it costs
    tracer = ringbuf.Tracer("guard", mode="discard", streams="global", subbuf_size=1 << 17, n_subbufs=2)
    one = tracer.event("one", n="u64")
    three = tracer.event("three", n="u64", path="str", ms="f64")
    off = tracer.event("off", n="u64")
    off.enabled = False
    hits, took = tracer.counter("hits"), tracer.histogram("took", "s")
    of_path = tracer.counter("of_path", path="str").labels("/")
    span, quiet = tracer.span_type("span", table="str"), tracer.span_type("quiet", table="str")
    quiet.enabled = False
    counted = {"__name__": "counted"}
    exec("def call(): pass", counted)

    def spans(kind):
        with kind("orders"):
            pass

    kinds = {
        "one integer": lambda: one(12345),
        "integer, text and float": lambda: three(12345, "/pay", 3.25),
        "the same by name": lambda: three(ms=3.25, n=12345, path="/pay"),
        "a text of 100 bytes": lambda: three(12345, "/" + 99 * "x", 3.25),
        "disabled": lambda: off(12345),
        "a counter": lambda: hits(),
        "a counter with labels, and n": lambda: of_path(3),
        "a histogram": lambda: took(0.25),
        "a span with a text": lambda: spans(span),
        "a disabled span": lambda: spans(quiet),
        "a recorded call": counted["call"],
    }
    for name, call in kinds.items():
        with Functions(tracer, include=["counted"]):
            call()
            tracer.channel.flush()
            call()
            begin()
            for _ in range(CALLS):
                call()
            end(name.encode())
            tracer.channel.clear()
    assert tracer.stats().records_lost == 0


if __name__ == "__main__":
    main(ctypes.CDLL(sys.argv[1]))
