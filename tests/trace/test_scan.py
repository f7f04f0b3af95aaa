"""ringbuf.scan: partitions planned from headers hold every record once, whoever reads them."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import needs
import numpy
import pytest

import ringbuf
from ringbuf.fleet.manifest import Gathered, Manifest, Member

pyarrow = needs.module("pyarrow")


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """A set of three traces, one of them of many packets."""
    path = tmp_path_factory.mktemp("set")
    for name, count in (("a", 60_000), ("b", 500), ("c", 3)):
        tracer = ringbuf.Tracer(name, mode="discard", subbuf_size=16384, n_subbufs=64, blocking_timeout=None)
        order, note = tracer.event("order", n="u32", path="str"), tracer.event("note", text="str", n="u32")
        with tracer.record(path / name):
            for n in range(count):
                order(n, f"/{name}/{n}")
                if n % 100 == 0:
                    note("seen", n)
    return path


def whole(traces, name):
    with ringbuf.open_trace(traces) as trace:
        return trace.to_numpy(name)


@pytest.mark.parametrize("by", ["stream", "time"])
def test_every_record_is_there_once(traces, by):
    plan = ringbuf.scan(traces, "order", by=by, size=65536)
    assert len(plan) > 3
    table = pyarrow.concat_tables([plan.read(one) for one in plan.partitions])
    expected = whole(traces, "order")
    assert sorted(table["path"].to_pylist()) == sorted(expected["path"].tolist())
    if by == "time":
        times = table["timestamp"].cast("i8").to_numpy()
        assert (numpy.diff(times) >= 0).all()
        assert times.tolist() == expected["timestamp"].tolist()


def test_batches_are_the_same(traces):
    plan = ringbuf.scan(traces, "order", ["n"], size=65536)
    n = numpy.concatenate([batch["n"].to_numpy() for batch in plan.batches()])
    assert sorted(n.tolist()) == sorted(whole(traces, "order")["n"].tolist())
    assert plan.reader().read_all().num_rows == len(n)


def test_several_events_have_one_table(traces):
    plan = ringbuf.scan(traces)
    assert plan.schema.names[-1] == "event" and {"n", "path", "text"} <= set(plan.schema.names)
    table = pyarrow.concat_tables([plan.read(one) for one in plan.partitions])
    events = table["event"].to_pylist()
    assert events.count("note") == len(whole(traces, "note"))
    paths = table["path"].to_pylist()
    assert all((path is None) == (event == "note") for path, event in zip(paths, events, strict=True))


def test_the_columns_are_those_that_are_asked_for(traces):
    plan = ringbuf.scan(traces, "order", ["path", "trace", "event"])
    table = plan.read(plan.partitions[0])
    assert table.schema.names == ["path", "trace", "event"]
    assert all(path.split("/")[1] == name for path, name in zip(*(table[c].to_pylist() for c in ("path", "trace")),
                                                                  strict=True))  # fmt: skip
    assert plan.read(plan.partitions[0], ["event"]).schema.names == ["event"]
    with pytest.raises(KeyError, match="nothing"):
        plan.read(plan.partitions[0], ["nothing"])


@pytest.mark.parametrize("by", ["stream", "time"])
def test_a_time_prunes_packets(traces, by):
    expected = whole(traces, "order")
    begin, end = expected["timestamp"][20_000], expected["timestamp"][25_000]
    plan = ringbuf.scan(traces, "order", begin=int(begin), end=int(end), by=by, size=65536)
    everything = ringbuf.scan(traces, "order", size=65536)
    assert sum(one.size for one in plan.partitions) < sum(one.size for one in everything.partitions) / 2
    found = pyarrow.concat_tables([plan.read(one) for one in plan.partitions])
    inside = expected[(expected["timestamp"] >= begin) & (expected["timestamp"] < end)]
    assert sorted(found["path"].to_pylist()) == sorted(inside["path"].tolist())


def test_planning_reads_no_records(traces, tmp_path):
    """All but metadata and the first page of each packet is gone, and the plan is the same."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(traces, copy)
    with ringbuf.open_trace(copy) as trace:
        packets = trace.packets
    for packet in packets:
        with open(copy / packet.file, "r+b") as file:
            file.seek(packet.offset + 256)
            file.write(bytes(packet.size - 256))
    plans = [ringbuf.scan(one, "order", size=65536).partitions for one in (traces, copy)]
    assert plans[0] == plans[1]


def test_a_manifest_spares_the_opening_of_traces(traces, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(traces, copy)
    members = []
    for name in "abc":
        with ringbuf.open_trace(copy / name) as trace:
            begin, end = trace.time_range
            times = trace.to_numpy("order")["timestamp"]
        members.append(Member(name, state="alive", traces=[Gathered(name, begin, end)]))
        if name == "a":
            late = int(times[-10])
    first_of_b = members[1].traces[0].begin
    (copy / "manifest.json").write_text(Manifest("test", late, members=members).to_json())
    plan = ringbuf.scan(copy, "order", end=first_of_b)
    assert (plan.opened, plan.left_out) == (1, 2)
    assert sum(plan.read(one).num_rows for one in plan.partitions) == 60_000


def test_a_plan_pickles_and_says_what_it_is(traces):
    plan = pickle.loads(pickle.dumps(ringbuf.scan(traces, "order", size=65536)))
    first = plan.partitions[0]
    assert first.packets == first.size // 16384 and first.size <= 65536
    assert plan.read(first).num_rows > 100 and len(pickle.dumps(first)) < 2000
    assert f"{len(plan)} partitions" in repr(plan)


def test_memory_is_bounded_by_the_batch(tmp_path):
    """A trace of 64 MiB is read with far less."""
    program = f"""
import json, resource, sys
import ringbuf
path = {str(tmp_path / "trace")!r}
tracer = ringbuf.Tracer("x", mode="discard", subbuf_size=262144, n_subbufs=16, blocking_timeout=None)
import numpy
event = tracer.event("e", n="u32", data="u64[7]")
rows = numpy.zeros(10000, [("n", "u4"), ("data", "u8", 7)])
with tracer.record(path):
    for _ in range(100):
        event.many(rows)
plan = ringbuf.scan(path, "e", ["n"])
next(iter(plan.batches()))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
count = sum(len(batch) for batch in plan.batches())
grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([count, grown, sum(p.size for p in plan.partitions)]))
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    count, grown, size = json.loads(out)
    assert count == 1_000_000 and size > 60 << 20
    assert grown < 16 << 10  # KiB


# ---- for others ----


@pytest.mark.parametrize("by", ["stream", "time"])
def test_dask_reads_it(traces, by):
    needs.module("dask.dataframe")
    expected = whole(traces, "order")
    plan = ringbuf.scan(traces, "order", by=by, size=65536)
    frame = plan.to_dask()
    assert frame.npartitions == len(plan) and frame.known_divisions == (by == "time")
    assert int(frame["n"].sum().compute(scheduler="sync")) == int(expected["n"].sum())
    assert frame[["n"]].compute(scheduler="sync").columns.tolist() == ["n"]
    whole_frame = frame.compute(scheduler="sync")
    assert len(whole_frame) == len(expected)
    if by == "time":
        assert whole_frame.index.is_monotonic_increasing
        middle = whole_frame.index[30_000]
        assert len(frame.loc[:middle].compute(scheduler="sync")) >= 30_001


@pytest.mark.parametrize("by", ["stream", "time"])
def test_polars_reads_it(traces, by):
    polars = needs.module("polars")
    expected = whole(traces, "order")
    lazy = ringbuf.scan(traces, "order", by=by, size=65536).to_polars()
    assert lazy.select(polars.col("n").sum()).collect().item() == int(expected["n"].sum())
    some = lazy.filter(polars.col("path").str.starts_with("/c/")).select("n").collect()
    assert sorted(some["n"].to_list()) == [0, 1, 2]
    assert len(lazy.head(7).collect()) == 7 and len(lazy.filter(polars.col("n") > 100).head(5).collect()) == 5
    assert lazy.collect().schema == lazy.collect_schema()


def test_parquet_has_a_file_for_each_partition(traces, tmp_path):
    import concurrent.futures

    plan = ringbuf.scan(traces, "order", size=65536)
    with concurrent.futures.ProcessPoolExecutor(2) as pool:
        names = plan.to_parquet(tmp_path / "out", pool)
    assert len(names) == len(plan)
    table = needs.module("pyarrow.parquet").read_table(tmp_path / "out")
    assert sorted(table["path"].to_pylist()) == sorted(whole(traces, "order")["path"].tolist())
    with pytest.raises(FileExistsError):
        plan.to_parquet(tmp_path / "out")


def test_a_url_is_read_by_ranges(traces):
    fsspec = needs.module("fsspec")
    memory = fsspec.filesystem("memory")
    memory.put(str(traces), "/scanned", recursive=True)
    try:
        plan = ringbuf.scan("memory://scanned", "order", ["n"], size=65536)
        assert sum(plan.read(one).num_rows for one in plan.partitions) == len(whole(traces, "order"))
        with ringbuf.open_trace("memory://scanned") as trace:
            assert trace.count()["order"] == len(whole(traces, "order")) and len(trace.sources) == 3
            assert len(list(trace.spans())) == 0 and len(next(trace.iter_text())) > 0
    finally:
        memory.rm("/scanned", recursive=True)


# ---- what cannot be ----


def test_what_is_not_there_is_an_error(traces, tmp_path):
    with pytest.raises(ringbuf.TraceError, match="no event is called 'nothing'"):
        ringbuf.scan(traces, "nothing")
    with pytest.raises(ringbuf.TraceError, match="no column is called 'nothing'; there are timestamp"):
        ringbuf.scan(traces, "order", ["nothing"])
    with pytest.raises(ringbuf.TraceError, match="not a directory"):
        ringbuf.scan(tmp_path / "nothing")
    with pytest.raises(ringbuf.TraceError, match="no file called metadata"):
        ringbuf.scan(tmp_path)
    with pytest.raises(ValueError, match="by one of stream, time"):
        ringbuf.scan(traces, by="cpu")
    with pytest.raises(ValueError, match="65536 bytes at least"):
        ringbuf.scan(traces, size=10)
    with pytest.raises(ValueError, match="is later than"):
        ringbuf.scan(traces, begin=2, end=1)


def test_one_column_of_two_types_is_an_error(tmp_path):
    for name, kind in (("a", "u32"), ("b", "str")):
        tracer = ringbuf.Tracer(name)
        tracer.event("e", x=kind)(1 if kind == "u32" else "one")
        tracer.snapshot(tmp_path / name)
    with pytest.raises(ringbuf.TraceError, match="column 'x' of event 'e' is uint32 in one trace and large_string"):
        ringbuf.scan(tmp_path)


def test_a_trace_without_packets_of_the_time_is_empty(traces):
    plan = ringbuf.scan(traces, "order", begin=1, end=2)
    assert len(plan) == 0 and list(plan.batches()) == []
    needs.module("dask.dataframe")
    assert len(plan.to_dask().compute(scheduler="sync")) == 0
    needs.module("polars")
    assert len(plan.to_polars().collect()) == 0


@pytest.mark.slow
def test_the_benchmark_of_scans_tells_the_pace_that_many_keep(tmp_path):
    script = Path(__file__).parents[2] / "bench" / "scan.py"
    command = [sys.executable, script, "--traces", "2", "--size", "2", "--workers", "2", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=240)
    found = json.loads(done.stdout)
    assert found["rows"] == 2 * ((2 << 20) // 40) and found["workers"] == 2
    assert found["pace_kept"] > 0 and found["worker_growth_mib"] < 256


def test_planning_reads_metadata_and_headers_alone(tmp_path, monkeypatch):
    """Also of many traces: what is read grows with the number of packets, not with what they hold."""
    from ringbuf import places

    read = []
    at, into = places.LocalFile.read_at, places.LocalFile.read_into

    def read_at(self, offset, size):
        data = at(self, offset, size)
        read.append(len(data))
        return data

    def read_into(self, offset, data):
        read.append(into(self, offset, data))
        return read[-1]

    monkeypatch.setattr(places.LocalFile, "read_at", read_at)
    monkeypatch.setattr(places.LocalFile, "read_into", read_into)
    (tmp_path / "set").mkdir(mode=0o700)
    for number in range(20):
        tracer = ringbuf.Tracer("x", mode="discard", subbuf_size=1 << 16, n_subbufs=16)
        event = tracer.event("e", data="bytes")
        with tracer.record(tmp_path / "set" / f"t{number}"):
            for _ in range(20):
                event(bytes(30_000))
        tracer.channel.close()
    plan = ringbuf.scan(tmp_path / "set", "e", ["data"])
    packets = sum(one.packets for one in plan.partitions)
    assert packets >= 200 and sum(one.size for one in plan.partitions) > 10_000_000
    assert 0 < sum(read) < 1_000_000
