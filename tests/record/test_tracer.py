"""Tracer: declaring events, ids, attaching."""

import enum
import errno
import gc
import os
import threading

import judge
import pytest
import rings
from rings import assert_exact, exit_code, fork, in_fork, in_thread, records

import ringbuf
from ringbuf.ctf import metadata, schema


def test_the_tour_of_the_package_docs(tmp_path):
    tracer = ringbuf.Tracer("shop", mode="discard")
    checkout = tracer.event("checkout", order="u64", path="str", ms="f64")
    assert checkout(17, "/pay", 3.25) is True
    tracer.snapshot(tmp_path / "out")
    (event,) = judge.events(tmp_path / "out")
    assert (event["name"], event["fields"]) == ("checkout", {"order": 17, "path": "/pay", "ms": 3.25})
    assert event["contexts"]["stream"] == {"vpid": os.getpid(), "vtid": threading.get_native_id()}


def test_the_default_is_a_flight_recorder():
    with ringbuf.Tracer("flight") as tracer:
        assert (tracer.channel.mode, tracer.name, tracer.channel.contexts) == (
            "overwrite",
            "flight",
            "vpid:i32,vtid:i32",
        )
        assert "flight" in repr(tracer)


def test_options_are_the_channels():
    with rings.tracer(subbuf_size=8192, n_subbufs=2, wakeup="writer") as tracer:
        assert (tracer.channel.subbuf_size, tracer.channel.n_subbufs, tracer.channel.wakeup) == (8192, 2, "writer")
    with pytest.raises(TypeError):
        rings.tracer(no_such_option=1)


def test_the_same_declaration_is_the_same_event():
    with rings.tracer() as tracer:
        one = tracer.event("event", a="u8", b="str")
        assert tracer.event("event", a="u8", b="str") is one
        assert tracer.event("event", a=" u8 ", b="str") is one
        others = [
            tracer.event("event", b="str", a="u8"), tracer.event("event", a="u8"),
            tracer.event("other", a="u8", b="str"),
            tracer.event("event", a="u16", b="str"), tracer.event("event", a="u8", b="str", _contexts=("vpid",)),
        ]  # fmt: skip
        assert [event.id for event in (one, *others)] == list(range(6))


def test_every_process_gets_the_same_id():
    with rings.tracer() as tracer:
        tracer.event("first")

        def child():
            assert tracer.event("second", x="u8").id == 1
            assert tracer.event("first").id == 0

        in_fork(child)
        assert tracer.event("third").id == 2
        assert tracer.event("second", x="u8").id == 1


def test_many_processes_and_threads_declare_at_once(rng):
    names = [f"event{i}" for i in range(60)]
    with rings.tracer() as tracer:
        orders = [rng.sample(names, len(names)) for _ in range(8)]

        def declare(order):
            for name in order:
                assert tracer.event(name, x="u32").id == tracer.channel.declare_event(name, "", "x:u32")

        def child(order, other):
            thread = threading.Thread(target=declare, args=(other,))
            thread.start()
            declare(order)
            thread.join()

        children = [fork(child, orders[i], orders[i + 1]) for i in range(0, 8, 2)]
        assert [exit_code(pid) for pid in children] == [0] * 4
        schemas = tracer.channel.schemas()
        assert [schema[0] for schema in schemas] == list(range(60))
        assert sorted(schema[1] for schema in schemas) == sorted(names)


def test_a_process_killed_over_a_declaration_stops_nobody():
    with rings.tracer() as tracer:

        def child():
            for i in range(10**6):
                tracer.event(f"event{i}", x="u32")

        for _ in range(10):
            pid = fork(child)
            rings.eventually(lambda: len(tracer.channel.schemas()) > 0)
            os.kill(pid, 9)
            exit_code(pid)
            in_thread(tracer.event, "mine")
        schemas = tracer.channel.schemas()
        assert [schema[0] for schema in schemas] == list(range(len(schemas)))


NAMES = [
    "a",
    "checkout done",
    'quo"te',
    "back\\slash",
    "new\nline",
    "tab\t",
    "名前",
    "x" * 1000,
    "{};:=",
    "\x01\x7f",
    "lttng_ust:tp",
    "%s",
]


@pytest.mark.parametrize("header", ["compact", "large"])
def test_any_text_is_a_name(header, tmp_path):
    with rings.tracer(client=ringbuf.CtfClient(header)) as tracer:
        for i, name in enumerate(NAMES):
            assert tracer.event(name, i="u8")(i)
        tracer.snapshot(tmp_path / "trace")
        assert [event["name"] for event in judge.events(tmp_path / "trace")] == NAMES
        assert [record.name for record in records(tracer.channel)] == NAMES


@pytest.mark.parametrize(
    ("name", "error"),
    [("", ValueError), ("a\0b", ValueError), ("\ud800", ValueError), (None, Exception), (b"x", Exception)],
)
def test_a_name_that_is_none_is_refused(name, error):
    with rings.tracer() as tracer:
        with pytest.raises(error):
            tracer.event(name, x="u8")
        assert tracer.channel.schemas() == []


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("u7", ValueError), ("", ValueError), ("U8", ValueError), ("str[]", ValueError), ("bytes@8", ValueError),
        ("u8[0]", ValueError), ("u8[-1]", ValueError), (None, TypeError), (int, TypeError), (8, TypeError),
        (b"u8", TypeError),
        (enum.Enum("Empty", {}), ValueError),
    ],
    ids=str,
)  # fmt: skip
def test_a_type_that_is_none_is_refused(kind, error):
    with rings.tracer() as tracer:
        with pytest.raises(error, match="x"):
            tracer.event("event", x=kind)
        assert tracer.channel.schemas() == []


def test_field_names_that_are_none_are_refused():
    with rings.tracer() as tracer:
        for name in ("é", "a-b", "1a", "", "a b"):
            with pytest.raises(ValueError):
                tracer.event("event", **{name: "u8"})


def test_a_full_schema_area_is_an_error():
    with rings.tracer(schema_size=4096) as tracer:
        with pytest.raises(OSError, match="schema_size") as error:
            for i in range(1000):
                tracer.event(f"event{i}")
        assert error.value.errno == errno.ENOSPC
        assert tracer.event("event0")()


@pytest.mark.parametrize("header", ["compact", "large"])
def test_more_events_than_a_compact_header_has_ids_for(header, tmp_path):
    with rings.tracer(client=ringbuf.CtfClient(header)) as tracer:
        events = [tracer.event(f"event{i}", value="u32", **{f"own{i}": "u8"}) for i in range(100)]
        for _ in range(2):
            for i, event in enumerate(events):
                assert event(i * 1000, i)
        tracer.snapshot(tmp_path / "trace")
        found = judge.events(tmp_path / "trace")
        assert [(one["name"], one["id"]) for one in found] == [(f"event{i}", i) for i in range(100)] * 2
        assert [one["fields"] for one in found] == [{"value": i * 1000, f"own{i}": i} for i in range(100)] * 2


@pytest.mark.parametrize("header", ["compact", "large"])
@pytest.mark.parametrize("holes", [False, True])
def test_ids_around_every_limit_of_the_headers_are_read(header, holes, tmp_path):
    """Declaring so many events takes long, so these are made without; their metadata is added by hand."""
    ids = [1, 28, 29, 30, 31, 32, 65_533, 65_534, 65_535, 65_536, 2**32 - 1]
    with rings.tracer(client=ringbuf.CtfClient(header)) as tracer:
        tracer.channel.write(b"has id 0")
        schemas = [schema.EventSchema(i, f"event{i}", "", "x:u32") for i in ids]
        for one in schemas:
            parts = schema.parts(schema.parse(one.fields))
            event = ringbuf.Event(tracer.channel, one.id, one.name, "", one.fields, parts, [None], None)
            assert event(one.id)
            slot = tracer.channel.reserve(7)
            assert event(one.id ^ 1)
            if holes:
                slot.discard()
            else:
                slot.commit()
        tracer.snapshot(tmp_path / "trace")
    with open(tmp_path / "trace" / "metadata", "a") as file:
        file.writelines(map(metadata.event_metadata, schemas))
    found = [(one["id"], one["fields"]["x"]) for one in judge.events(tmp_path / "trace") if one["name"] != "payload"]
    assert found == [(i, value) for i in ids for value in (i, i ^ 1)]
    with ringbuf.open_trace(tmp_path / "trace") as trace:
        assert [(one.event_id, one.fields["x"]) for one in trace if one.name != "payload"] == found


def test_a_tracer_can_be_dropped_while_its_events_are_in_use():
    tracer = rings.tracer()
    event = tracer.event("event", x="u8")
    other = ringbuf.attach(tracer.channel.fileno())
    del tracer
    gc.collect()
    assert event(1)
    assert [record.fields["x"] for record in records(other)] == [1]


# ---- attaching ----


def test_a_tracer_attaches_to_a_channel_in_every_way(tmp_path):
    with rings.tracer(path=tmp_path / "ring") as tracer:
        tracer.event("event", x="u8")(0)
        for target in (tmp_path / "ring", str(tmp_path / "ring"), tracer.channel.fileno(), tracer.channel):
            other = ringbuf.Tracer.attach(target)
            event = other.event("event", x="u8")
            assert event.id == 0 and event(1)
            if target is not tracer.channel:
                other.close()
        assert tracer.stats().records_written == 5
        assert_exact(tracer.stats(), attempts=5)


def test_attaching_to_what_is_no_channel_is_refused(tmp_path):
    (tmp_path / "file").write_bytes(bytes(10000))
    with pytest.raises(ringbuf.RegionError, match="magic"):
        ringbuf.Tracer.attach(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        ringbuf.Tracer.attach(tmp_path / "none")
