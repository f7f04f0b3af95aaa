"""Traces made to take memory or time: an error that names the place, in bounds; and what is honest is read."""

import os
import signal
import subprocess
import sys
import time

import hostile
import pytest

import ringbuf
from ringbuf import Limits, TraceError

MANY = 65535


def every_way(trace):
    """All that goes over the events of a trace."""
    yield "records", lambda: [record.fields for record in trace]
    yield "text", lambda: list(trace.iter_text())
    yield "columns", lambda: trace.to_numpy("e")
    yield "counts", trace.count


def test_a_row_larger_than_numpys_sizes_is_refused(tmp_path):
    # 2**32 + 100 bytes for a row: NumPy's own arithmetic makes 100 of it.
    bits = MANY * 32768
    fields = f"bit a[{MANY}][32768]; bit b[{MANY}][32768]; bit c[{MANY}]; bit d[89];"
    content = hostile.PACKET_HEADER + hostile.EVENT_HEADER + (2 * bits + MANY + 89 + 7) // 8
    path = hostile.trace(tmp_path / "t", hostile.event(fields), hostile.packet([b""], content=content), length=content)
    limits = Limits(packet_size=1 << 30)
    with ringbuf.open_trace(path, limits=limits) as trace:
        assert trace.count() == {"e": 1}
        for refused in (lambda: trace.to_numpy("e"), lambda: next(trace.iter_numpy("e"))):
            with pytest.raises(TraceError, match=r"event 'e': a row takes 4294967396 bytes.*limits\.row_size"):
                refused()


def test_elements_larger_than_numpys_sizes_of_which_there_are_none(tmp_path):
    path = hostile.trace(tmp_path / "t", hostile.event("uint32_t x[0][65535][65535];"), hostile.packet([b""]))
    with ringbuf.open_trace(path) as trace:
        assert trace.count() == {"e": 1}
        with pytest.raises(TraceError, match=r"event 'e': elements of an empty array.*limits\.row_size"):
            trace.to_numpy("e")


def test_a_row_may_be_as_large_as_the_limit(tmp_path):
    path = hostile.trace(
        tmp_path / "t", hostile.event("uint8_t x[1000]; uint32_t y[3];"), hostile.packet([bytes(1012)] * 3)
    )
    size = 8 + 4 + 1012
    assert ringbuf.open_trace(path, limits=Limits(row_size=size)).to_numpy("e").dtype.itemsize == size
    with pytest.raises(TraceError, match=f"a row takes {size} bytes"):
        ringbuf.open_trace(path, limits=Limits(row_size=size - 1)).to_numpy("e")


EMPTY = {
    "structures": ("struct { } x[60000][60000];", b""),
    "strings": ("string x[60000][60000][60000][0];", b""),
    "options": (
        "enum : uint8_t { a = 0, b = 1 } tag; variant <tag> { struct { } a; string b; } x[60000][60000][60000];",
        b"\0",
    ),
    "sequences": ("uint8_t n; uint8_t x[60000][60000][n];", b"\0"),
    "rows": ("struct { bit a[0]; } x[60000][60000];", b""),
}


@pytest.mark.parametrize("kind", EMPTY)
def test_elements_without_bytes_come_to_an_end(kind, tmp_path):
    fields, payload = EMPTY[kind]
    path = hostile.trace(tmp_path / "t", hostile.event(fields), hostile.packet([payload], padding=9000))
    with ringbuf.open_trace(path) as trace:
        for _, go in every_way(trace):
            try:
                go()
            except TraceError as error:
                assert "packet at byte 0" in str(error) or "event 'e'" in str(error)


def test_names_without_values_come_to_an_end(tmp_path):
    names = " ".join(f"struct {{ }} name{i:05};" for i in range(20000))
    path = hostile.trace(tmp_path / "t", hostile.event(f"{names} uint8_t y;"), hostile.packet([b"\0"] * 2000))
    with pytest.raises(TraceError, match=r"stream: packet at byte 0: .*limits\.empty_values"):
        for _ in ringbuf.open_trace(path).iter_text():
            pass
    small = hostile.trace(tmp_path / "s", hostile.event(f"{names} uint8_t y;"), hostile.packet([b"\0"] * 3))
    assert [len(record.fields) for record in ringbuf.open_trace(small)] == [20001] * 3
    with pytest.raises(TraceError, match="event 'e' at time 1000: it has more values"):
        next(iter(ringbuf.open_trace(small, limits=Limits(empty_values=1)))).fields  # noqa: B018


def test_the_text_of_a_packet_is_bounded(tmp_path):
    labels = ", ".join(f"l{i} = 0 ... 255" for i in range(2000))
    fields = f"enum : uint8_t {{ {labels} }} x[250];"
    path = hostile.trace(tmp_path / "t", hostile.event(fields), hostile.packet([bytes(250)] * 4))
    with pytest.raises(TraceError, match=r"stream: packet at byte 0: its text is longer than limits\.text_size"):
        list(ringbuf.open_trace(path, limits=Limits(text_size=10 << 20)).iter_text())
    lines = "".join(ringbuf.open_trace(path, limits=Limits(text_size=40 << 20)).iter_text()).splitlines()
    assert len(lines) == 4 and all(line.count('"l1999"') == 250 for line in lines)


def test_what_is_left_out_for_its_text_does_not_hide_the_next_packet(tmp_path):
    labels = ", ".join(f"l{i} = 0" for i in range(2000))
    fields = f"enum : uint8_t {{ {labels}, one = 1 }} x[250];"
    data = hostile.packet([bytes(250)] * 4) + hostile.packet([b"\1" * 250])
    path = hostile.trace(tmp_path / "t", hostile.event(fields), data)
    trace = ringbuf.open_trace(path, errors="skip", limits=Limits(text_size=1 << 20))
    (line,) = "".join(trace.iter_text()).splitlines()
    assert line.count('"one"') == 250 and trace.skipped_packets == 1


def test_a_packet_that_is_a_hole_is_not_read(tmp_path):
    size = 3 << 30
    data = hostile.packet([b"\0"], content=size)
    path = hostile.trace(tmp_path / "t", hostile.event("uint8_t x;"), data, length=size)
    with pytest.raises(TraceError, match=rf"stream: packet at byte 0: .* {size} bytes.*limits\.packet_size"):
        next(iter(ringbuf.open_trace(path)))


def test_a_hole_is_passed_over_at_once(tmp_path):
    data = b"no packet"
    path = hostile.trace(tmp_path / "t", hostile.event("uint8_t x;"), data, length=1 << 42)
    assert ringbuf.open_trace(path, errors="skip").packets == ()


def test_metadata_that_is_a_hole_is_not_read(tmp_path):
    path = hostile.trace(tmp_path / "t", "", b"")
    os.truncate(path / "metadata", 1 << 42)
    with pytest.raises(TraceError, match=r"metadata: .*limits\.metadata_size"):
        ringbuf.open_trace(path)


def test_a_header_is_not_read_beyond_its_end(tmp_path):
    # Elements that count a clock: a walk looks at each of them, so their size was not known where they were counted.
    head = hostile.HEAD.replace(
        "uint64_t packet_size;\n",
        "uint64_t packet_size; uint8_t n;"
        " integer { size = 8; align = 8; signed = false; encoding = UTF8; map = clock.c.value; } text[n];\n",
    )
    data = hostile.packet([])
    path = hostile.trace(tmp_path / "t", hostile.event("uint8_t x;"), data + b"\xff" + b"a" * 200, head=head)
    with pytest.raises(TraceError, match="longer than the content|impossible"):
        ringbuf.open_trace(path).packets  # noqa: B018


@pytest.mark.parametrize("size", range(1, 65))
def test_hexadecimal_numbers_of_every_size(size, tmp_path):
    fields = f"integer {{ size = {size}; align = 8; signed = true; base = 16; }} x; uint8_t last;"
    path = hostile.trace(tmp_path / "t", hostile.event(fields), hostile.packet([b"\xff" * (-(-size // 8) + 1)]))
    (text,) = ringbuf.open_trace(path).iter_text()
    assert f"x = 0x{(1 << -(-size // 4) * 4) - 1:X}, last" in text


def test_times_that_are_far_apart(tmp_path):
    head = hostile.HEAD.replace("offset_s = 0;", "offset_s = -9223372036;")
    metadata = hostile.event("uint8_t x;")
    path = hostile.trace(tmp_path / "t", metadata, hostile.packet([b"\0"]), head=head)
    (text,) = ringbuf.open_trace(path).iter_text()
    assert text.startswith("[-9223372035.999999000] ")


LOOK = """
import sys
import ringbuf
trace = ringbuf.open_trace(sys.argv[1], limits=ringbuf.Limits(empty_values=1 << 50))
print("begin", flush=True)
try:
    if sys.argv[2] == "text":
        list(trace.iter_text())
    elif sys.argv[2] == "count":
        trace.count()
    elif sys.argv[2] == "columns":
        trace.to_numpy("e")
    else:
        [record.fields for record in trace]
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("way", ["text", "count", "columns", "records"])
def test_a_signal_ends_a_long_walk(way, tmp_path):
    fields = "uint8_t n; uint8_t x[60000][60000][60000][n];"
    path = hostile.trace(tmp_path / "t", hostile.event(fields), hostile.packet([b"\0"], padding=9000))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", LOOK, path, way]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout.readline() == "begin\n"
            time.sleep(0.5)  # it is in the walk by now; if not, it ends all the same
            running.send_signal(signal.SIGINT)
            assert running.communicate(timeout=60)[0] == "interrupted\n"
        finally:
            running.kill()


def test_limits_are_numbers_that_can_be():
    for wrong in ({"row_size": 1 << 31}, {"packet_size": 0}, {"text_size": 1 << 32}, {"metadata_size": "1"}):
        with pytest.raises(ValueError, match=f"limits: {next(iter(wrong))}"):
            Limits(**wrong)


def test_a_packet_may_take_so_many_seconds(tmp_path):
    fields, values = EMPTY["strings"]
    path = hostile.trace(tmp_path / "t", hostile.event(fields), hostile.packet([values], padding=9000))
    start = time.monotonic()
    with pytest.raises(TraceError, match=r"limits\.seconds"):
        ringbuf.open_trace(path, limits=Limits(empty_values=1 << 50, seconds=1)).count()
    assert 0.9 < time.monotonic() - start < 30


def test_small_packets_of_much_text_do_not_wait_for_each_other(tmp_path):
    labels = ", ".join(f"l{n:04}{'x' * 100} = 0 ... 255" for n in range(1000))
    fields = f"enum : uint8_t {{ {labels} }} x[100];"
    packets = b"".join(hostile.packet([bytes(100)]) for _ in range(20))
    path = hostile.trace(tmp_path / "t", hostile.event(fields), packets)
    sizes = [len(part) for part in ringbuf.open_trace(path).iter_text()]
    assert sum(sizes) > 150 << 20 and max(sizes) < 64 << 20
