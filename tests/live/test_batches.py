"""Reader.batches: one event of a living channel as structured arrays."""

import asyncio
import os

import numpy
import pytest
import rings
from rings import assert_exact

import ringbuf


def of(reader, event="tick", **options):
    """All rows, copied."""
    return [rows.copy() for rows in reader.batches(event, **options)]


def test_rows_are_those_of_the_records(rng):
    with (
        rings.tracer(contexts=("vpid",)) as tracer,
        ringbuf.Tracer("records", streams="global", contexts=("vpid",)) as same,
    ):
        for one in (tracer, same):
            tick, text = one.event("tick", n="u64", x="f32"), one.event("text", text="str", many="u16[]")
            for n in range(3000):
                tick(n, n / 2)
                text("x" * (n % 50), range(n % 4))
            one.channel.finalize()
        with same.channel.reader() as reader:
            expected = [tuple(record.fields.values()) for record in reader.records() if record.name == "text"]
        with tracer.channel.reader() as reader:
            batches = of(reader)
    rows = numpy.concatenate(batches)
    assert rows["n"].tolist() == list(range(3000)) and rows["x"][-1] == 2999 / 2
    assert rows.dtype.names == ("timestamp", "cpu", "vpid", "n", "x") and set(rows["vpid"]) == {os.getpid()}
    assert (numpy.diff(rows["timestamp"]) >= 0).all()
    with rings.tracer() as tracer:
        text = tracer.event("text", text="str", many="u16[]")
        for fields in expected:
            text(*fields)
        tracer.channel.finalize()
        with tracer.channel.reader() as reader:
            found = [(row["text"], row["many"].tolist()) for rows in of(reader, text) for row in rows]
    assert found == expected


def test_packets_of_such_events_alone_are_not_copied():
    # Mostly: after a pause an event has a longer header, and its packet is copied.
    with rings.tracer(contexts=("vpid",), subbuf_size=1 << 16, n_subbufs=16) as tracer:
        tick = tracer.event("tick", n="u64", x="f32", three="i16[3]")
        for n in range(20_000):
            tick(n, 0.5, (n % 100, 1, -1))
        tracer.channel.finalize()
        numbers, in_place = [], 0
        with tracer.channel.reader() as reader:
            for rows in reader.batches("tick", copy=False):
                assert rows.dtype.names == ("vpid", "n", "x", "three")
                assert rows["three"][0].tolist() == [rows["n"][0] % 100, 1, -1]
                numbers += rows["n"].tolist()
                in_place += not rows.flags.writeable
                del rows
        assert numbers == list(range(20_000)) and in_place
        assert_exact(tracer.stats())


@pytest.mark.parametrize("fields", [{"n": "u64", "on": "bool"}, {"n": "u64", "s": "str"}])
def test_what_cannot_be_read_in_place_is_copied(fields):
    with rings.tracer() as tracer:
        tick, other = tracer.event("tick", **fields), tracer.event("other", x="u8")
        for n in range(300):
            tick(n, True if "on" in fields else "text")
            other(1)
        tracer.channel.finalize()
        with tracer.channel.reader() as reader:
            rows = numpy.concatenate(of(reader, copy=False))
    assert rows.dtype.names == tuple(fields) and rows["n"].tolist() == list(range(300))


def test_an_array_that_is_a_packet_must_be_gone_before_the_next():
    with rings.tracer(subbuf_size=4096) as tracer:
        tick = tracer.event("tick", n="u64")
        for n in range(1000):
            tick(n)
        with tracer.channel.reader() as reader:
            batches = reader.batches("tick", copy=False)
            rows = next(one for one in batches if not one.flags.writeable)
            with pytest.raises(BufferError):
                next(batches)
            last = rows["n"][-1]
            with pytest.raises(ValueError):
                rows["n"][0] = 1
            del rows
            assert next(batches)["n"][0] == last + 1


def test_an_event_may_be_declared_later_and_others_count_as_read():
    with rings.tracer() as tracer:
        other = tracer.event("other", x="u8")
        other(1)
        with tracer.channel.reader() as reader:
            batches = reader.batches("tick", timeout=0)
            assert list(batches) == []
            tracer.event("tick", n="u64")(7)
            other(2)
            assert [rows["n"].tolist() for rows in reader.batches("tick", timeout=0)] == [[7]]
        assert tracer.stats().records_read == 3


def test_records_that_were_copied_do_not_come_again():
    with rings.tracer() as tracer:
        tick = tracer.event("tick", n="u64")
        tick(1)
        for expected in ([1], [2]):
            with tracer.channel.reader() as reader:
                assert next(iter(reader.batches(tick)))["n"].tolist() == expected
            tick(2)


def test_packets_that_were_overwritten_are_counted():
    with ringbuf.Tracer("small", mode="overwrite", streams="global", subbuf_size=4096, n_subbufs=4) as tracer:
        tick = tracer.event("tick", n="u64")
        tick(0)
        with tracer.channel.reader() as reader:
            batches = reader.batches("tick", timeout=0)
            assert next(batches)["n"].tolist() == [0] and batches.missed == 0
            for n in range(5000):
                tick(n)
            rows = list(batches)
            assert batches.missed > 0 and rows[-1]["n"][-1] == 4999


def test_a_loop_of_asyncio_gets_what_another_process_records():
    async def consume(reader):
        ticks, found = 0, []

        async def count():
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        other = asyncio.ensure_future(count())
        async for rows in reader.batches("tick", timeout=1):
            found += rows["n"].tolist()
        other.cancel()
        return ticks, found

    with rings.tracer(blocking_timeout=10) as tracer:
        tick = tracer.event("tick", n="u64")
        with tracer.channel.reader() as reader:
            pid = rings.fork(lambda: [tick(n) for n in range(20_000)])
            ticks, found = asyncio.run(consume(reader))
    assert rings.exit_code(pid) == 0 and found == list(range(20_000)) and ticks
