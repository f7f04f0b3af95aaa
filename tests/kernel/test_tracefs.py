"""tracefs.py against the kernel of this machine; as root only."""

import os
import re
import signal
import struct
import time

import numpy
import pytest
import rings
from kernels import kernel_ring, one_cpu, tracefs_root  # noqa: F401

from ringbuf.kernel import tracefs

SETTINGS = ("tracing_on", "trace_clock", "buffer_size_kb", "buffer_percent", "set_event", "options/overwrite")


@pytest.fixture(autouse=True)
def settings_stay(tracefs_root):  # noqa: F811
    """Whatever a test does, the top-level settings and the instances are afterwards what they were."""

    def state():
        names = {name for name in os.listdir(tracefs_root / "instances") if not name.startswith("ringbuf-")}
        return names, [(tracefs_root / name).read_text() for name in SETTINGS]

    before = state()
    yield
    assert state() == before


def test_the_kernels_events_come_out_as_the_kernel_prints_them(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 64, clock="mono") as (instance, buffer, write):
        instance.enable("sched:sched_switch")
        instance.enable("sched:sched_wak*")
        with open(instance.path / "trace_marker", "w") as marker:
            for n in range(20):
                marker.write(f"marker {n}\n")
                marker.flush()
                write(n, b"raw" * n)
                time.sleep(0.001)
        instance.stop()
        printed = [line for line in (instance.path / "trace").read_text().splitlines() if line[:1] != "#"]
        printed = [line for line in printed if f"[{buffer.cpu:03}]" in line]
        found = list(buffer.records(timeout=0))
        assert len(found) == len(printed) > 60
        names = {"tracing_mark_write": "print"}
        for record, line in zip(found, printed, strict=True):
            seconds, name, text = re.match(r".*? +([\d.]+): (\w+|# \w+)[: ](.*)", line).groups()
            assert abs(record.timestamp - float(seconds) * 1e9) < 1000, line
            if record.name == "raw_data":
                assert int(name[2:], 16) == record.fields["id"]
            else:
                assert record.name == names.get(name, name)
            if record.name == "sched_switch":
                pairs = dict(re.findall(r"(\w+)=(\S+)", text))
                assert int(pairs["prev_pid"]) == record.fields["prev_pid"]
                assert int(pairs["next_prio"]) == record.fields["next_prio"]
            if record.name == "print":
                assert text.strip() == record.fields["buf"].strip()


def test_columns_are_numpy_arrays(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 4) as (_, buffer, write):
        for n in range(50):
            write(n, b"")
        buffer.get_reader()
        rows = buffer.new_arrays("raw_data")
        assert rows["id"].tolist() == list(range(50))
        assert numpy.all(numpy.diff(rows["timestamp"]) > 0) and set(rows["common_pid"]) == {os.getpid()}
        assert list(buffer.new_arrays()) == ["raw_data"]
        assert len(buffer.reader_data) == buffer.meta.reader.read == len(buffer.new_data)


def test_pages_are_read_where_they_cannot_be_mapped(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 8) as (instance, buffer, write):
        buffer.close()
        with tracefs.MappedBuffer(buffer.cpu, instance, mapped=False) as reading:
            assert not reading.is_mapped and reading.get_reader() == 0 and not len(reading.new_data)
            for n in range(400):
                write(n, b"")
            found = [record.fields["id"] for record in reading.records(timeout=0)]
            assert found == list(range(400))
            assert reading.meta.nr_subbufs == 2 and reading.meta.subbuf_size == 4096
            reading.get_reader()
            assert not len(reading.new_data)


def test_a_lap_is_told_by_the_page(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 4) as (_, buffer, write):
        for n in range(1500):
            write(n, b"")
        buffer.get_reader()
        first = buffer.new_records()[0].fields["id"]
        assert first == buffer.meta.overrun > 0
        assert buffer.lost_events in (None, first)


def test_waiting_sees_any_event_and_the_watermark(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 4) as (instance, buffer, write):
        assert not buffer.wait(0.02)
        write(1, b"")
        assert buffer.wait(60)
        assert buffer.get_reader(block=True, timeout=60) == 1
        assert not buffer.wait(0) and not buffer.wait(0.02, percent=50)
        with pytest.raises(ValueError):
            buffer.wait(0, percent=30)
        instance.set("buffer_percent", 30)
        for n in range(1000):
            write(n, b"")
        assert buffer.wait(20, percent=30)
        buffer.wake()


def test_what_was_mapped_lives_on_and_closing_is_final(tracefs_root):  # noqa: F811
    with kernel_ring(tracefs_root, 4) as (_, buffer, write):
        write(7, b"data")
        buffer.get_reader()
        view = buffer.reader_data
        buffer.close()
        buffer.close()
        assert struct.unpack_from("<I", view, 12)[0] == 7 and buffer.closed
        for use in (buffer.get_reader, lambda: buffer.meta, buffer.wait, buffer.fileno, buffer.wake):
            with pytest.raises(ValueError):
                use()
        del view


def test_an_instance_is_removed_also_after_a_kill(tracefs_root):  # noqa: F811
    instances = tracefs_root / "instances"

    def child():
        tracefs.Instance(root=tracefs_root).start()
        os.kill(os.getpid(), signal.SIGKILL)

    assert rings.exit_code(rings.fork(child)) == -signal.SIGKILL
    left = set(os.listdir(instances))
    assert any(name.startswith("ringbuf-") for name in left)
    with tracefs.Instance(root=tracefs_root) as own:
        assert os.listdir(instances) == [own.name]
        rings.in_fork(own.close)  # not the child's to remove
        assert own.path.exists()
    assert os.listdir(instances) == []


def test_what_is_wrong_is_said(tracefs_root, monkeypatch, tmp_path):  # noqa: F811
    with tracefs.Instance(root=tracefs_root) as instance, one_cpu() as cpu:
        with pytest.raises(tracefs.TracefsError, match="no event 'sched:nothing'"):
            instance.enable("sched:nothing")
        with pytest.raises(tracefs.TracefsError, match="trace_clock"):
            instance.set("trace_clock", "sundial")
        with pytest.raises(tracefs.TracefsError, match="no such instance"):
            tracefs.MappedBuffer(cpu, tracefs_root / "instances" / "missing")
        with pytest.raises(tracefs.TracefsError):
            tracefs.MappedBuffer(99999, instance)
    with pytest.raises(tracefs.TracefsError):
        tracefs.Instance(root=tmp_path)
    mounts = tmp_path / "mounts"
    mounts.write_text("proc /proc proc rw 0 0\n")
    monkeypatch.setattr("builtins.open", lambda *a, real=open, **k: real(mounts, **k))
    with pytest.raises(tracefs.TracefsError, match="not mounted"):
        tracefs.find_tracefs()
