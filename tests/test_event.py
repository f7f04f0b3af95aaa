"""Event: every field type, from Python values to what babeltrace2 reads; errors leave nothing half-written."""

import array
import enum
import functools
import gc
import math
import struct
import sys
import threading

import judge
import numpy
import pytest
import rings
from hypothesis import given, settings
from hypothesis import strategies as st
from rings import assert_exact, records, run_script

import ringbuf
from ringbuf.ctf import schema

INTEGERS = {
    name: (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    for name, (bits, signed) in schema.INTEGERS.items()
}


class Color(enum.Enum):
    RED = 0
    GREEN = 7
    BLUE = 255


class Level(enum.IntEnum):
    LOW = -5
    HIGH = 300


class Mode(enum.Flag):
    READ = 1
    WRITE = 2
    BOTH = 3


class Index:
    """A number that is not an int."""

    def __init__(self, value):
        self.value = value

    def __index__(self):
        return self.value

    def __float__(self):
        return float(self.value)


def f32(value):
    return struct.unpack("f", struct.pack("f", value))[0]


@pytest.fixture
def tracer():
    with rings.tracer() as tracer:
        yield tracer


def values_of(found):
    return [record.fields["x"] for record in found]


# ---- what each type takes ----

TAKES = {
    "bool": [(True, True), (False, False), (numpy.bool_(True), True), (numpy.False_, False)],
    "f64": [
        (0.5, 0.5), (-0.0, -0.0), (3, 3.0), (True, 1.0), (numpy.float32(0.1), float(numpy.float32(0.1))),
        (Index(4), 4.0),
        (numpy.int64(-2), -2.0), (1e308, 1e308), (5e-324, 5e-324), (math.inf, math.inf), (-math.inf, -math.inf),
        (math.nan, math.nan), (1 << 1000, float(1 << 1000)), (math.pi, math.pi),
    ],
    "f32": [
        (0.5, 0.5), (0.1, f32(0.1)), (3, 3.0), (3.4028234663852886e38, 3.4028234663852886e38), (math.inf, math.inf),
        (math.nan, math.nan), (1e-46, 0.0), (-1e-45, f32(-1e-45)), (numpy.float64(1.5), 1.5),
    ],
    "str": [
        ("", ""), ("plain", "plain"), ("né 名前 🎉", "né 名前 🎉"), ("a\nb\t\"'\\", "a\nb\t\"'\\"), ("\0", "\0"),
        ("a\0b\0", "a\0b\0"), ("x" * 10_000, "x" * 10_000), ("\x7f\x80\U0010ffff", "\x7f\x80\U0010ffff"),
        (type("S", (str,), {})("sub"), "sub"),
    ],
    "bytes": [
        (b"", b""), (b"\0\xff\0", b"\0\xff\0"), (bytearray(b"ab"), b"ab"), (memoryview(b"abcd")[1:3], b"bc"),
        (array.array("H", [1, 2]), b"\1\0\2\0"), (numpy.arange(4, dtype="u1").reshape(2, 2), b"\0\1\2\3"),
        (b"z" * 9999, b"z" * 9999),
    ],
    "u32[]": [
        ([], []), ((), ()), ([0, 2**32 - 1], [0, 2**32 - 1]), (range(3), [0, 1, 2]), ((True, Index(5)), [1, 5]),
        (numpy.array([1, 2], "u4"), [1, 2]), (numpy.array([1, 2], "i8"), [1, 2]), (numpy.array([1, 2], ">u4"), [1, 2]),
        (numpy.arange(10, dtype="u4")[::3], [0, 3, 6, 9]), (numpy.array([], "u4"), []), (array.array("I", [7]), [7]),
        (array.array("b", [7]), [7]), (b"\1\2", [1, 2]), ({3: 0, 4: 0}, [3, 4]), ((i for i in (1, 2)), [1, 2]),
        (memoryview(numpy.array([5], "u4")), [5]), (list(range(5000)), list(range(5000))),
    ],
    "i64[]": [([-(2**63), 2**63 - 1], [-(2**63), 2**63 - 1]), (numpy.array([-1], "i8"), [-1]),
        (numpy.array([-1], "i1"), [-1])],
    "u8[]": [(b"\0\xff", [0, 255]), (bytearray(b"a"), [97]), (numpy.array([255], "u1"), [255]), ([255], [255])],
    "f64[3]": [
        ([1, 2.5, -math.inf], [1.0, 2.5, -math.inf]), (numpy.arange(3.0), [0.0, 1.0, 2.0]),
        (numpy.arange(3, dtype="f4"), [0.0, 1.0, 2.0]),
        (numpy.arange(3), [0.0, 1.0, 2.0]), (array.array("d", [1, 2, 3]), [1.0, 2.0, 3.0]),
        ((Index(1), True, 3), [1.0, 1.0, 3.0]),
    ],
    "f32[]": [([0.1], [f32(0.1)]), (numpy.array([0.1], "f4"), [f32(0.1)]), (numpy.array([0.1], "f8"), [f32(0.1)])],
    "bool[2]": [([True, False], [True, False]), (numpy.array([False, True]), [False, True])],
    "bool[]": [([], []), ((True,), [True]), (numpy.array([True]), [True])],
    "i16[1]": [([-32768], [-32768]), (numpy.array([32767], "i2"), [32767])],
}  # fmt: skip


def same(one, other):
    """Equal, and equally signed, with NaN equal to itself."""
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other) or (one != one and other != other)
    return one == other


def judged(value):
    """A value as babeltrace2 gives it."""
    if isinstance(value, str):
        return value.replace("\0", "\udcc0\udc80")  # U+0000 does not end a string: it is two bytes
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, (list, tuple)):
        return [judged(one) for one in value]
    return int(value) if isinstance(value, bool) else value


@pytest.mark.parametrize("kind", TAKES)
def test_every_value_that_a_type_takes_is_read_back_by_both_readers(kind, tracer, tmp_path):
    event = tracer.event("event", before="u8", x=kind, after="u64")
    for i, (value, _) in enumerate(TAKES[kind]):
        assert event(i, value, ~i & (1 << 64) - 1) is True
    wanted = [value for _, value in TAKES[kind]]
    tracer.snapshot(tmp_path / "trace")
    found = judge.events(tmp_path / "trace")
    for i, (one, value) in enumerate(zip(found, wanted, strict=True)):
        assert (one["fields"]["before"], one["fields"]["after"]) == (i, ~i & (1 << 64) - 1)
        assert same(judged(value), one["fields"]["x"]), (value, one["fields"]["x"])
    found = values_of(records(tracer.channel))
    assert len(found) == len(wanted)
    for value, one in zip(wanted, found, strict=True):
        assert same(list(value) if isinstance(value, tuple) else value, one), (value, one)


@pytest.mark.parametrize("kind", INTEGERS)
def test_integers_reach_both_ends_of_their_range_and_no_further(kind, tracer, tmp_path):
    low, high = INTEGERS[kind]
    event = tracer.event("event", x=kind)
    good = [low, low + 1, 0, 1, high - 1, high, Index(high), Index(low), True]
    dtype = numpy.dtype(kind[0] + str(int(kind[1:]) // 8))
    good += [numpy.array(low, dtype)[()], numpy.array(high, dtype)[()]]
    for value in good:
        assert event(value)
    for value in (low - 1, high + 1, -(1 << 63) - 1, 1 << 64, -(1 << 100), 1 << 100, Index(high + 1), Index(low - 1)):
        with pytest.raises(OverflowError, match=f"'x'.*out of range for {kind}"):
            event(value)
    wanted = [getattr(value, "value", None) if isinstance(value, Index) else int(value) for value in good]
    assert_exact(tracer.stats(), attempts=len(good))
    tracer.snapshot(tmp_path / "trace")
    assert [one["fields"]["x"] for one in judge.events(tmp_path / "trace")] == wanted
    assert values_of(records(tracer.channel)) == wanted


REFUSES = {
    "u32": [1.0, 1.5, "1", None, b"1", [1], 1j, numpy.float64(1), numpy.array([1, 2]), Color.RED, object()],
    "i8": [0.0, "0", None, numpy.float32(0)],
    "f64": ["1.0", None, b"1", [1.0], 1j, Color.RED, numpy.array([1.0, 2.0]), object()],
    "f32": ["1.0", None],
    "bool": [0, 1, None, "True", 1.0, numpy.int8(1), numpy.array([True, False]), []],
    "str": [b"bytes", None, 1, ["s"], bytearray(b"b"), numpy.bytes_(b"b")],
    "bytes": ["text", None, 1, [1, 2], object(), 1.5],
    "u32[]": [
        None,
        5,
        "123",
        1.5,
        [None],
        ["1"],
        [1.5],
        [[1]],
        numpy.array([1.5]),
        numpy.zeros((2, 2), "u4"),
        object(),
    ],
    "bool[]": [[1], [None], b"\1", numpy.array([1, 0], "u1"), "True", True],
    "f64[3]": ["abc", None, 1.0, [1, 2, "3"], numpy.array(1.0)],
}


@pytest.mark.parametrize("kind", REFUSES)
def test_a_value_of_the_wrong_type_names_the_field_and_leaves_nothing(kind, tracer):
    event = tracer.event("event", before="str", x=kind, after="bytes")
    for value in REFUSES[kind]:
        with pytest.raises(TypeError, match="'x'"):
            event("before", value, b"after")
    assert tracer.stats() == ringbuf.Stats()
    assert records(tracer.channel) == []


@pytest.mark.parametrize(
    ("kind", "value", "error"),
    [
        ("f32", 1e39, OverflowError), ("f32", -3.5e38, OverflowError), ("f64", 1 << 1024, OverflowError),
        ("u8[]", [256], OverflowError), ("u8[]", [-1], OverflowError), ("i16[]", numpy.array([1 << 15]), OverflowError),
        ("u64[]", numpy.array([-1]), OverflowError), ("f32[]", [1e39], OverflowError), ("f64[3]", [1, 2], ValueError),
        ("f64[3]", [1, 2, 3, 4], ValueError), ("f64[3]", numpy.zeros(2), ValueError), ("f64[3]", [], ValueError),
        ("u8[2]", b"abc", ValueError), ("str", "\ud800", UnicodeEncodeError), ("str", "a\udfff", UnicodeEncodeError),
        ("bytes", numpy.arange(9, dtype="u1")[::2], ValueError), (Color, 256, OverflowError),
        (Level, 40_000, OverflowError), ("u32[]", memoryview(b"abcd").cast("I"), None),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused_and_leaves_nothing(kind, value, error, tracer):
    event = tracer.event("event", before="str", x=kind, after="bytes")
    if error is None:
        assert event("before", value, b"after")
        return
    with pytest.raises(error) as raised:
        event("before", value, b"after")
    assert "'x'" in str(raised.value)
    assert tracer.stats() == ringbuf.Stats()


def test_a_released_memoryview_is_refused(tracer):
    view = memoryview(b"abc")
    view.release()
    for kind in ("bytes", "u8[]"):
        with pytest.raises((ValueError, TypeError)):
            tracer.event(kind, x=kind)(view)
    assert tracer.stats() == ringbuf.Stats()


# ---- enumerations ----


def test_enumerations_take_members_and_their_values(tracer, tmp_path):
    event = tracer.event("event", color=Color, level=Level, mode=Mode)
    assert event(Color.GREEN, Level.LOW, Mode.WRITE)
    assert event(255, 300, Mode.READ | Mode.WRITE)
    assert event(numpy.uint8(7), Index(-5), 1)
    assert event(5, 0, 0)  # no member has it: the number alone
    for wrong in ((Level.LOW, Level.LOW, Mode.READ), ("RED", Level.LOW, Mode.READ), (Mode.READ, Level.LOW, Mode.READ)):
        with pytest.raises((TypeError, OverflowError)):
            event(*wrong)
    tracer.snapshot(tmp_path / "trace")
    found = judge.events(tmp_path / "trace")
    assert [tuple(one["fields"].values()) for one in found] == [(7, -5, 2), (255, 300, 3), (7, -5, 1), (5, 0, 0)]
    assert found[0]["labels"] == {"color": ["GREEN"], "level": ["LOW"], "mode": ["WRITE"]}
    assert found[1]["labels"]["mode"] == ["BOTH"]
    assert found[3]["labels"] == {"color": [], "level": [], "mode": []}


@pytest.mark.parametrize(
    "members",
    [{}, {"A": "text"}, {"A": 1.5}, {"A": -1, "B": 1 << 63}, {"A": 1 << 64}, {"A": None}, {"A": (1, 2)}],
    ids=str,
)
def test_a_class_whose_values_are_no_small_integers_is_refused(members, tracer):
    with pytest.raises(ValueError):
        tracer.event("event", x=enum.Enum("Members", members))
    assert tracer.channel.schemas() == []


# ---- calls ----


def test_values_can_be_given_in_order_by_name_or_both(tracer):
    event = tracer.event("event", a="u8", b="str", c="f64")
    assert event(1, "x", 0.5)
    assert event(1, c=0.5, b="x")
    assert event(c=0.5, b="x", a=1)
    assert event(**{"a": 1, "b": "x", "c": 0.5})
    assert event(*(1, "x"), **{"c": 0.5})
    assert functools.partial(event, 1)(b="x", c=0.5)
    assert list(map(event, [1], ["x"], [0.5])) == [True]
    assert event.__call__(1, b="x", c=0.5)
    assert callable(event)
    assert {tuple(record.fields.values()) for record in records(tracer.channel)} == {(1, "x", 0.5)}
    assert tracer.stats().records_written == 8


@pytest.mark.parametrize(
    ("args", "named", "message"),
    [
        ((), {}, "takes 2 values"), ((1,), {}, "takes 2 values"), ((1, 2, 3), {}, "takes 2 values"),
        ((1, 2), {"a": 1}, "takes 2 values"), ((1,), {"c": 2}, "no field 'c'"),
        ((1,), {"a": 2}, "two values for field 'a'"),
        ((), {"a": 1, "z": 2}, "no field 'z'"), ((), {"b": 1}, "takes 2 values"),
    ],
)  # fmt: skip
def test_a_wrong_number_of_values_is_refused(args, named, message, tracer):
    event = tracer.event("event", a="u8", b="u8")
    with pytest.raises(TypeError, match=message):
        event(*args, **named)
    assert tracer.stats() == ringbuf.Stats()


def test_an_event_may_have_no_fields(tracer, tmp_path):
    event = tracer.event("tick")
    assert event()
    with pytest.raises(TypeError):
        event(1)
    tracer.snapshot(tmp_path / "trace")
    assert [(one["name"], one["fields"]) for one in judge.events(tmp_path / "trace")] == [("tick", {})]


@pytest.mark.parametrize("n_fields", [15, 16, 17, 100, 300])
def test_an_event_may_have_many_fields(n_fields, tracer, tmp_path):
    event = tracer.event("many", **{f"f{i}": ("u16", "str", "f64")[i % 3] for i in range(n_fields)})
    values = [(i, f"s{i}", i / 8)[i % 3] for i in range(n_fields)]
    assert event(*values)
    assert event(**dict(zip((f"f{i}" for i in range(n_fields)), values, strict=True)))
    for i in (0, n_fields - 1):
        with pytest.raises(TypeError, match=f"'f{i}'"):
            event(*[*values[:i], None, *values[i + 1 :]])
    tracer.snapshot(tmp_path / "trace")
    assert [list(one["fields"].values()) for one in judge.events(tmp_path / "trace")] == [values] * 2


def test_field_names_may_be_words_of_any_language(tracer, tmp_path):
    names = [
        "struct",
        "class_",
        "int",
        "event",
        "name",
        "self",
        "timestamp",
        "id",
        "string",
        "enum",
        "_x",
        "__x",
        "a" * 100,
    ]
    event = tracer.event("event", **dict.fromkeys(names, "u8"))
    assert event(*range(len(names)))
    assert event(**dict(zip(names, range(len(names)), strict=True)))
    tracer.snapshot(tmp_path / "trace")
    assert list(judge.events(tmp_path / "trace")[1]["fields"].values()) == list(range(len(names)))


def test_the_event_describes_itself(tracer):
    event = tracer.event("order", id="u64", path=" str ")
    assert (event.name, event.id, event.schema.fields, event.enabled) == ("order", 0, "id:u64,path:str", True)
    assert "order" in repr(event) and "id:u64" in repr(event)


def test_a_switched_off_event_records_nothing_and_counts_nothing(tracer):
    event = tracer.event("event", x="u8")
    event.enabled = False
    assert event(1) is False
    assert event("not even looked at") is False
    event.enabled = True
    assert event(2) is True
    assert tracer.stats().attempts == 1
    assert values_of(records(tracer.channel)) == [2]


def test_a_lost_event_says_so():
    with rings.tracer(subbuf_size=4096, n_subbufs=2) as tracer:
        event = tracer.event("event", x="str")
        results = [event("x" * 500) for _ in range(50)]
        written = sum(results)
        assert results == [True] * written + [False] * (50 - written)
        assert event("x" * 5000) is False
        tracer.channel.disable()
        assert event("x") is False
        stats = tracer.stats()
        assert (stats.records_lost_full, stats.records_lost_big, stats.records_lost_disabled) == (50 - written, 1, 1)
        assert_exact(stats, attempts=52)


def test_a_closed_channel_is_an_error(tracer):
    event = tracer.event("event", x="u8")
    tracer.close()
    with pytest.raises(ValueError, match="closed"):
        event(1)


# ---- large arguments ----

TEN_MB = 10_000_000


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("str", "x" * TEN_MB), ("str", "é" * (TEN_MB // 2)), ("str", "\0" * (TEN_MB // 2)), ("bytes", bytes(TEN_MB)),
        ("bytes", bytearray(TEN_MB)), ("u64[]", numpy.arange(TEN_MB // 8, dtype="u8")),
        ("u32[]", list(range(1_000_000))),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) < 20 else type(value).__name__,
)  # fmt: skip
def test_ten_megabytes_are_recorded_where_they_fit_and_counted_where_not(kind, value):
    with rings.tracer() as tracer:
        event = tracer.event("event", x=kind, after="u8")
        assert event(value, 1) is False
        assert tracer.stats().records_lost_big == 1
        assert event(value, 2) is False
        assert_exact(tracer.stats(), attempts=2)
    with rings.tracer(subbuf_size=1 << 24, n_subbufs=2) as tracer:
        event = tracer.event("event", x=kind, after="u8")
        assert event(value, 1) is True
        assert event(value, 2) is True
        first, second = records(tracer.channel)
        assert (first.fields["after"], second.fields["after"]) == (1, 2)
        assert len(first.fields["x"]) == len(value)
        assert (numpy.array_equal(first.fields["x"], value)) if kind.endswith("]") else first.fields["x"] == value


def test_ten_megabytes_of_a_fixed_size_are_recorded_where_they_fit_and_refused_where_none_would():
    with rings.tracer() as tracer, pytest.raises(ValueError, match="'x'.*subbuf_size"):
        tracer.event("event", x="f64[1250000]", after="u8")
    with rings.tracer(subbuf_size=1 << 24, n_subbufs=2) as tracer:
        value = numpy.arange(TEN_MB // 8, dtype="f8")
        assert tracer.event("event", x="f64[1250000]", after="u8")(value, 1)
        (record,) = records(tracer.channel)
        assert numpy.array_equal(record.fields["x"], value)


@pytest.mark.parametrize("header", ["compact", "large"])
def test_babeltrace_reads_ten_megabytes(header, tmp_path):
    with rings.tracer(subbuf_size=1 << 24, n_subbufs=2, client=ringbuf.CtfClient(header)) as tracer:
        event = tracer.event("event", x="str", after="u8")
        assert event("x" * TEN_MB, 1) and event("y", 2)
        assert not event("x" * (1 << 25), 3)
        tracer.snapshot(tmp_path / "trace")
        found = judge.read(tmp_path / "trace")
        assert [(len(one["fields"]["x"]), one["fields"]["after"]) for one in found.events] == [(TEN_MB, 1), (1, 2)]
        assert [loss["count"] for loss in found.discarded_events] == [1]


# ---- whatever is raised, nothing has been recorded ----


def test_failed_calls_between_good_ones_leave_no_trace(tracer, tmp_path, rng):
    event = tracer.event(
        "event", n="u8", text="str", blob="bytes", many="u16[]", three="f64[3]", flag="bool", color=Color
    )
    good = [1, "text", b"blob", [1, 2], (1, 2, 3), True, Color.RED]
    bad = [(300, None), ("\ud800", 5), ("x", 7), ([1 << 16], "12"), ([1, 2], None), (1, "yes"), ("RED", None)]
    for _ in range(200):
        i = rng.randrange(len(good))
        values = [*good[:i], rng.choice(bad[i]), *good[i + 1 :]]
        with pytest.raises((TypeError, ValueError, OverflowError)):
            event(*values)
        assert event(*good)
    assert_exact(tracer.stats(), attempts=200)
    tracer.snapshot(tmp_path / "trace")
    found = judge.read(tmp_path / "trace")
    assert len(found.events) == 200 and found.discarded_events == []
    assert all(one["fields"]["text"] == "text" and one["fields"]["many"] == [1, 2] for one in found.events)


def test_an_exception_from_a_value_is_the_callers(tracer):
    class Raises:
        def __init__(self, error):
            self.error = error

        def fail(self, *_):
            raise self.error

        __index__ = __float__ = __len__ = __getitem__ = __iter__ = fail

    for kind in ("u8", "f64", "u8[]", "f32[2]"):
        event = tracer.event(kind, before="bytes", x=kind)
        for error in (ZeroDivisionError("mine"), KeyboardInterrupt("mine"), ValueError("mine")):
            with pytest.raises(type(error), match="mine"):
                event(b"x", Raises(error))
    assert tracer.stats() == ringbuf.Stats()


def test_buffers_are_given_back_whatever_happens(tracer):
    event = tracer.event("event", a="bytes", b="u8[]", c="u8")
    one, other = bytearray(b"12345"), bytearray(b"678")
    event(one, other, 1)
    with pytest.raises(OverflowError):
        event(one, other, 256)
    tracer.channel.disable()
    event(one, other, 1)
    one.extend(b"grows: no buffer is exported")
    other.clear()


def test_no_references_are_kept_or_lost(tracer):
    event = tracer.event("event", a="str", b="bytes", c="f64[2]", d="u64", e=Color)
    values = ("".join(["te", "xt"]), bytearray(b"blob"), [1.5, Index(2)], Index(5), Color.BLUE)
    wrong = ("".join(["te", "xt"]), bytearray(b"blob"), [1.5, Index(2)], Index(-1), Color.BLUE)
    named = dict(zip("abcde", values, strict=True))
    gc.collect()
    before = [sys.getrefcount(value) for value in (*values, *wrong, event, True, False)]
    for _ in range(1000):
        event(*values)
        event(**named)
        with pytest.raises(OverflowError):
            event(*wrong)
        with pytest.raises(TypeError):
            event(*values[:4])
    gc.collect()
    after = [sys.getrefcount(value) for value in (*values, *wrong, event, True, False)]
    assert all(abs(now - then) < 100 for then, now in zip(before, after, strict=True)), (before, after)


# ---- values that run code ----


def test_a_value_that_records_comes_first(tracer):
    event = tracer.event("event", x="u32")

    class Records:
        def __index__(self):
            event(1)
            return 2

    assert event(Records())
    assert values_of(records(tracer.channel)) == [1, 2]


def test_a_list_that_changes_while_it_is_measured_is_an_error_or_whole(tracer):
    event = tracer.event("event", x="u32[]")

    class Changes:
        def __init__(self, change):
            self.change = change

        def __index__(self):
            self.change()
            return 1

    for change in ("clear", "append", "pop"):
        values = [0, None, 2, 3]
        values[1] = Changes(lambda: values.append(9) if change == "append" else getattr(values, change)())  # noqa: B023
        try:
            event(values)
        except RuntimeError as error:
            assert "changed size" in str(error)
    found = values_of(records(tracer.channel))
    assert all(one[:2] == [0, 1] for one in found)


def test_a_value_that_closes_the_channel_is_an_error():
    run_script(
        """
import ringbuf
class Closes:
    def __init__(self, tracer):
        self.tracer = tracer
    def close(self, *_):
        self.tracer.close()
        return 1
    __index__ = close
for kind in ("u8", "u8[]"):
    for mode in ("discard", "overwrite"):
        for timeout in (0, None):
            tracer = ringbuf.Tracer("closes", mode=mode, blocking_timeout=timeout)
            event = tracer.event("event", x=kind)
            try:
                event([Closes(tracer)] if kind == "u8[]" else Closes(tracer))
            except ValueError as error:
                assert "closed" in str(error), error
            else:
                raise AssertionError(kind)
"""
    )


def test_an_array_that_another_thread_changes_is_recorded_whole(tracer, tmp_path):
    """The bytes may be of any moment; their number never is."""
    event = tracer.event("event", blob="bytes", many="u8[]", mark="u32")
    source = bytearray(1000)
    stop = threading.Event()

    def change():
        byte = 0
        while not stop.is_set():
            byte = (byte + 1) % 256
            source[:] = bytes([byte]) * 1000

    thread = threading.Thread(target=change)
    thread.start()
    n = sum(event(source, source, 0xABCDEF) for _ in range(100))
    stop.set()
    thread.join()
    tracer.snapshot(tmp_path / "trace")
    found = judge.events(tmp_path / "trace")
    assert len(found) == n
    assert all(len(one["fields"]["blob"]) == 1000 and one["fields"]["mark"] == 0xABCDEF for one in found)


# ---- any schema ----

SCALARS = {
    **{name: st.integers(low, high) for name, (low, high) in INTEGERS.items()},
    "f64": st.floats(),
    "f32": st.floats(width=32),
    "bool": st.booleans(),
    "str": st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
    "bytes": st.binary(max_size=50),
}


@st.composite
def fields_and_rows(draw):
    kinds = []
    for _ in range(draw(st.integers(0, 6))):
        base = draw(st.sampled_from(list(SCALARS)))
        length = draw(st.sampled_from(["", "[]", "[1]", "[5]"])) if base not in ("str", "bytes") else ""
        kinds.append((base, length))

    def value(base, length):
        if not length:
            return SCALARS[base]
        size = length[1:-1]
        return st.lists(SCALARS[base], min_size=int(size or 0), max_size=int(size or 8))

    row = st.tuples(*(value(*kind) for kind in kinds))
    return ["".join(kind) for kind in kinds], draw(st.lists(row, min_size=1, max_size=5))


@settings(max_examples=150)
@given(fields_and_rows(), st.sampled_from(["compact", "large"]))
def test_any_record_of_any_schema_comes_back(drawn, header):
    kinds, rows = drawn
    with rings.tracer(client=ringbuf.CtfClient(header)) as tracer:
        event = tracer.event("event", **{f"f{i}": kind for i, kind in enumerate(kinds)})
        for row in rows:
            assert event(*row)
        found = [list(record.fields.values()) for record in records(tracer.channel)]
    assert len(found) == len(rows)
    for row, values in zip(rows, found, strict=True):
        assert same(list(row), [list(one) if hasattr(one, "tolist") else one for one in values]), (row, values)


# ---- rows of an array ----

ROW = numpy.dtype([("n", "u8"), ("small", "i2"), ("on", "?"), ("xyz", "f4", 3)])
ROW_FIELDS = {"n": "u64", "small": "i16", "on": "bool", "xyz": "f32[3]"}


def some_rows(n, dtype=ROW):
    rows = numpy.zeros(n, dtype)
    rows["n"] = numpy.arange(n)
    rows["small"] = -numpy.arange(n) % 1000
    rows["on"] = numpy.arange(n) % 3 == 0
    rows["xyz"] = numpy.arange(3 * n).reshape(n, 3)
    return rows


def as_fields(row):
    return {"n": int(row["n"]), "small": int(row["small"]), "on": int(row["on"]), "xyz": row["xyz"].tolist()}


@pytest.mark.parametrize("options", [{}, {"blocking_timeout": 0.01}, {"clock": iter(range(1, 1 << 20)).__next__}])
def test_rows_of_an_array_are_records(options):
    with rings.tracer(**options) as tracer:
        assert tracer.event("row", **ROW_FIELDS).many(some_rows(50)) == 50
        found = records(tracer.channel)
        assert [{**r.fields, "on": int(r.fields["on"])} for r in found] == [as_fields(row) for row in some_rows(50)]


def test_rows_match_by_name_and_may_lie_apart(tracer):
    event = tracer.event("row", **ROW_FIELDS)
    apart = numpy.dtype({"names": ["xyz", "on", "small", "n"], "formats": [("f4", 3), "?", "i2", "u8"],
                         "offsets": [40, 3, 8, 16], "itemsize": 64})  # fmt: skip
    rows = some_rows(40, apart)
    assert event.many(rows[::-2]) == 20
    assert event.many(rows[:0]) == 0
    assert event.many(some_rows(2)) == 2  # another dtype
    found = [record.fields["n"] for record in records(tracer.channel)]
    assert found == [*range(39, 0, -2), 0, 1]


@pytest.mark.parametrize(
    "rows",
    [
        [(1,)],
        b"12345678",
        numpy.zeros(3, "u8"),
        numpy.zeros((2, 2), [("x", "u8")]),
        numpy.zeros(3, [("y", "u8")]),
        numpy.zeros(3, [("x", "u8"), ("y", "u8")]),
        numpy.zeros(3, [("x", "u4")]),
        numpy.zeros(3, [("x", "i8")]),
        numpy.zeros(3, [("x", ">u8")]),
        numpy.zeros(3, [("x", "u8", 1)]),
        numpy.zeros(3, [("x", "O")]),
    ],
    ids=repr,
)
def test_rows_of_another_type_are_refused(tracer, rows):
    event = tracer.event("event", x="u64")
    with pytest.raises(TypeError):
        event.many(rows)
    assert_exact(tracer.stats(), 0)


class Liar(numpy.ndarray):
    """Says that its rows are larger than they are, and that it has some."""

    dtype = property(lambda self: numpy.dtype([("x", "u8")]))
    ndim = 1


@pytest.mark.parametrize("shape", [(), (3,), (3, 8)])
def test_rows_are_what_they_are_and_not_what_they_say(tracer, shape):
    event = tracer.event("event", x="u64")
    with pytest.raises(TypeError, match="Liar"):
        event.many(numpy.zeros(shape, "u1").view(Liar))
    assert_exact(tracer.stats(), 0)


@pytest.mark.parametrize("field", ["str", "bytes", "u32[]"])
def test_rows_cannot_have_fields_that_vary_in_size(tracer, field):
    with pytest.raises(TypeError, match="calling it"):
        tracer.event("event", x=field).many(numpy.zeros(3, [("x", "S4")]))


def test_rows_that_do_not_fit_are_lost_and_counted():
    with rings.tracer(mode="discard") as tracer:
        event = tracer.event("row", **ROW_FIELDS)
        recorded = event.many(some_rows(100_000))
        stats = tracer.stats()
        assert 0 < recorded < 100_000
        assert (stats.records_written, stats.records_lost_full) == (recorded, 100_000 - recorded)
        event.enabled = False
        assert event.many(some_rows(5)) == 0
        tracer.channel.disable()
        event.enabled = True
        assert event.many(some_rows(5)) == 0
        assert tracer.stats().records_lost_disabled == 5
        assert_exact(tracer.stats(), 100_005)


def test_rows_carry_the_contexts_of_the_moment():
    calls = []
    with rings.tracer(contexts=("vtid", ("call", "u32", lambda: calls.append(1) or len(calls)))) as tracer:
        event = tracer.event("row", **ROW_FIELDS)
        event.many(some_rows(3))
        event.many(some_rows(2))
        assert [record.contexts["call"] for record in records(tracer.channel)] == [1, 1, 1, 2, 2]


def test_rows_of_a_closed_channel_are_refused(tracer):
    event = tracer.event("row", **ROW_FIELDS)
    tracer.close()
    with pytest.raises(ValueError, match="closed"):
        event.many(some_rows(3))
