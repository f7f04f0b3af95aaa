"""Values that a field cannot hold: each is refused with the field's name, none is cut short or taken for another."""

import ctypes
import time
import warnings

import numpy
import pytest
import rings

import ringbuf


@pytest.fixture
def tracer():
    with rings.tracer() as tracer:
        yield tracer


MASKED = numpy.ma.array(numpy.zeros(3, "u1"), mask=[0, 1, 0])
REFUSED = [
    ("bytes", memoryview(b"abcdef")[::2]),
    ("bytes", numpy.arange(6, dtype="u1")[::2]),
    ("bytes", numpy.str_("né")),
    ("bytes", numpy.array([object()], object)),
    ("bytes", numpy.array(["text"])),
    ("bytes", numpy.zeros(2, [("a", "u4"), ("b", "O")])),
    ("bytes", numpy.datetime64("2020-01-01")),
    ("bytes", numpy.timedelta64(1, "s")),
    ("bytes", numpy.zeros(2, "M8[s]")),
    ("bytes", (ctypes.py_object * 2)()),
    ("bytes", (ctypes.c_void_p * 2)()),
    ("bytes", (ctypes.c_char_p * 2)(b"a", b"b")),
    ("bytes", MASKED),
    ("bytes", "text"),
    ("u8[]", numpy.datetime64("2020-01-01")),
    ("u8[8]", numpy.datetime64("2020-01-01")),
    ("u8[]", MASKED),
    ("u8[]", numpy.array([object()], object)),
    ("f64", 10**400),
    ("f64", numpy.longdouble("1e4000")),
    ("f32", 1e300),
    ("f64", "1.5"),
    ("f64[]", [1.0, 10**400]),
    ("u8", 256),
    ("i64", 1 << 63),
    ("u32[2]", [1]),
    ("str", b"bytes"),
    ("bool", 1),
]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_a_refused_value_names_its_field_and_nothing_is_recorded(tracer, number):
    kind, value = REFUSED[number]
    event = tracer.event("e", first="u8", wanted_here=kind, last="u8")
    with pytest.raises((TypeError, ValueError, OverflowError, BufferError), match="^field 'wanted_here': "):
        event(1, value, 2)
    assert tracer.stats() == ringbuf.Stats()


def test_what_an_arguments_own_code_raises_is_left_as_it_is(tracer):
    class Fails:
        def __index__(self):
            raise ValueError("mine")

    with pytest.raises(ValueError, match="^mine$"):
        tracer.event("e", n="u8")(Fails())


@pytest.mark.parametrize(
    "value", [b"ab", bytearray(b"ab"), memoryview(b"ab"), numpy.frombuffer(b"ab", "u1"), numpy.frombuffer(b"ab", "i2"),
              numpy.frombuffer(b"ab", [("Onion", "u1"), ("w", "i1")]), numpy.bytes_(b"ab"),
              (ctypes.c_char * 2)(b"a", b"b")],
)  # fmt: skip
def test_what_has_bytes_gives_them(tracer, value):
    assert tracer.event("e", data="bytes")(value)
    assert rings.records(tracer.channel)[0].fields == {"data": b"ab"}


@pytest.mark.parametrize("value", [float("inf"), numpy.float64("-inf"), numpy.longdouble("inf")])
def test_infinity_is_a_value(tracer, value):
    assert tracer.event("e", v="f64")(value)
    assert rings.records(tracer.channel)[0].fields == {"v": float(value)}


def test_masked_rows_are_refused(tracer):
    rows = numpy.ma.array(numpy.zeros(3, [("n", "u4")]))
    with pytest.raises(TypeError, match="masked"):
        tracer.event("e", n="u32").many(rows)


# ---- what no record can hold ----


@pytest.mark.parametrize("kind, fits", [("f64[500]", True), ("f64[512]", False), ("u8[4096]", False), ("str", True)])
def test_an_event_that_never_fits_is_an_error_when_it_is_declared(kind, fits):
    with rings.tracer(subbuf_size=4096, n_subbufs=2) as tracer:
        if fits:
            assert tracer.event("e", n="u8", big=kind).id == 0
        else:
            with pytest.raises(ValueError, match="event 'e' takes [0-9]+ bytes at least, most of them for field 'big'"):
                tracer.event("e", n="u8", big=kind)
            assert tracer.channel.schemas() == []


@pytest.mark.parametrize("size", range(3980, 4030))
def test_what_may_be_declared_can_be_recorded(size):
    with rings.tracer(subbuf_size=4096, n_subbufs=2) as tracer:
        try:
            event = tracer.event("e", big=f"u8[{size}]")
        except ValueError:
            return
        assert tracer.event("small")()  # a record soon after another has the shorter header
        assert event(bytes(size))


def test_a_clock_in_seconds_is_refused():
    for clock in (time.time, time.monotonic, time.perf_counter):
        with pytest.raises(TypeError, match=f"use time.{clock.__name__}_ns"):
            ringbuf.Channel("c", clock=clock)


def test_a_clock_that_returns_no_int_is_reported(monkeypatch):
    reports = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: reports.append(str(report.exc_value)))
    with ringbuf.Channel("c", clock=lambda: 1.5, streams="global") as channel:
        assert channel.write(b"x")
    assert reports and "a clock returns an int, of ticks, not float" in reports[0]


# ---- the snapshot of a channel whose places are all taken ----


def test_a_snapshot_says_that_it_lacks_what_is_new(tmp_path):
    import threading

    ready, leave = threading.Barrier(5), threading.Event()
    with ringbuf.Tracer("n", n_producers=4, streams="global", path=tmp_path / "file") as tracer:
        event = tracer.event("e", n="u64")

        def hold():
            event(1)
            ready.wait()
            leave.wait()

        threads = [threading.Thread(target=hold) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait()
        try:
            with pytest.warns(RuntimeWarning, match="n_producers"):
                tracer.snapshot(tmp_path / "a")
        finally:
            leave.set()
            for thread in threads:
                thread.join()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert tracer.snapshot(tmp_path / "b")["records"] == 4


def test_many_declarations_are_found_again():
    with rings.tracer(schema_size=1 << 22) as tracer, rings.tracer(schema_size=1 << 22) as other:
        ids = [tracer.event(f"event{n}", a="u64").id for n in range(3000)]
        attached = ringbuf.Tracer.attach(tracer.channel.fileno())
        assert [attached.event(f"event{n}", a="u64").id for n in range(2999, -1, -1)] == ids[::-1]
        assert attached.event("new").id == tracer.event("new").id == 3000
        assert tracer.event("newer").id == attached.event("newer").id == 3001
        assert other.event("e").id == 0
        attached.close()
