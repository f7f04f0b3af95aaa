"""packets.py, kernel.pxi, kernel.h: formats and sub-buffers made up here; test_tracefs.py has the kernel's own."""

import struct

import pytest

from ringbuf._decode import FileMap, KernelPackets
from ringbuf.ctf import metadata
from ringbuf.errors import TraceError
from ringbuf.kernel.packets import KernelDecoder, commit_of, parse_format

COMMON = """\
\tfield:unsigned short common_type;\toffset:0;\tsize:2;\tsigned:0;
\tfield:unsigned char common_flags;\toffset:2;\tsize:1;\tsigned:0;
\tfield:unsigned char common_preempt_count;\toffset:3;\tsize:1;\tsigned:0;
\tfield:int common_pid;\toffset:4;\tsize:4;\tsigned:1;

"""
FORMAT = f"""\
name: sample
ID: 7
format:
{COMMON}\
\tfield:char comm[8];\toffset:8;\tsize:8;\tsigned:0;
\tfield:pid_t pid;\toffset:16;\tsize:4;\tsigned:1;
\tfield:u16 port;\toffset:20;\tsize:2;\tsigned:0;
\tfield:bool on;\toffset:22;\tsize:1;\tsigned:0;
\tfield:unsigned long args[2];\toffset:24;\tsize:16;\tsigned:0;
\tfield:__u8 addr[4];\toffset:40;\tsize:4;\tsigned:0;
\tfield:__data_loc char[] text;\toffset:44;\tsize:4;\tsigned:0;
\tfield:__data_loc u8[] bytes;\toffset:48;\tsize:4;\tsigned:0;
\tfield:__rel_loc char[] near;\toffset:52;\tsize:4;\tsigned:0;

print fmt: "%s", REC->comm
"""
TAIL = f'name: print\nID: 5\nformat:\n{COMMON}\tfield:char buf[];\toffset:8;\tsize:0;\tsigned:0;\n\nprint fmt: ""\n'


def sample(pid=42, text=b"a text\0", data=b"\1\2\3", near=b"close\0"):
    fixed = struct.pack("<HBBi8siHBx2Q4B", 7, 1, 2, 99, b"task", pid, 80, 1, 10, 2**63, 127, 0, 0, 1)
    begin = len(fixed) + 12
    locs = [len(text) << 16 | begin, len(data) << 16 | begin + len(text)]
    # from the end of its own word
    locs.append(len(near) << 16 | len(text) + len(data))
    return fixed + struct.pack("<3I", *locs) + text + data + near


def event(data, delta=0):
    data = data.ljust(-(-len(data) // 4) * 4, b"\0")
    if len(data) <= 112:
        return struct.pack("<I", delta << 5 | len(data) // 4) + data
    return struct.pack("<II", delta << 5, len(data) + 4) + data


def extend(delta, kind=30):
    return struct.pack("<II", (delta & (1 << 27) - 1) << 5 | kind, delta >> 27)


def subbuf(*events, time=1000, flags=0, count=None):
    data = b"".join(events)
    page = struct.pack("<QQ", time, len(data) | flags) + data
    return (page + (struct.pack("<Q", count) if count is not None else b"")).ljust(4096, b"\0")


SIZE = len(event(sample()))


@pytest.fixture
def decoder(tmp_path):
    for name, text in (("a/sample", FORMAT), ("a/print", TAIL), ("a/broken", "nothing")):
        folder = tmp_path / "events" / name
        folder.mkdir(parents=True)
        (folder / "format").write_text(text)
    return KernelDecoder(tmp_path / "events", metadata.ClockInfo(10**9, name="kernel"))


def records(decoder, page, begin=0, end=None):
    return decoder.records(decoder.packet(page, begin, commit_of(page)[0] if end is None else end, cpu=3), cpu=3)


def test_every_kind_of_field_is_found(decoder):
    (record,) = records(decoder, subbuf(event(sample())))
    assert record.name == "sample" and record.cpu == 3 and record.timestamp == 1000
    assert record.contexts == {"common_flags": 1, "common_preempt_count": 2, "common_pid": 99}
    assert record.fields == {
        "comm": "task",
        "pid": 42,
        "port": 80,
        "on": 1,
        "args": [10, 2**63],
        "addr": [127, 0, 0, 1],
        "text": "a text",
        "bytes": b"\1\2\3",
        "near": "close",
    }


def test_times_are_sums_extended_and_absolute(decoder):
    print_event = struct.pack("<HBBi", 5, 0, 0, 1) + b"x\0"
    page = subbuf(
        event(print_event),
        event(print_event, 5),
        extend(2**40),
        event(print_event, 1),
        extend(2**50 + 7, kind=31),
        event(print_event, 3),
        struct.pack("<II", 9 << 5 | 29, 12) + b"discarded",  # 4 + 12 bytes
        b"",
        event(print_event, 2),
    )
    page = page.replace(b"discarded", b"8 bytes.", 1)
    times = [record.timestamp for record in records(decoder, page)]
    assert times == [1000, 1005, 1005 + 2**40 + 1, 2**50 + 10, 2**50 + 10 + 9 + 2]


def test_only_events_of_the_range_are_taken(decoder):
    events = [event(sample(pid)) for pid in range(5)]
    size = len(events[0])
    page = subbuf(*events)
    assert [r.fields["pid"] for r in records(decoder, page, 2 * size, 4 * size)] == [2, 3]
    assert decoder.packet(page, 5 * size, 5 * size, cpu=0) == b""


def test_large_events_and_text_to_the_end(decoder):
    text = b"y" * 1000
    (record,) = records(decoder, subbuf(event(struct.pack("<HBBi", 5, 0, 0, 1) + text + b"\0")))
    assert record.fields == {"buf": "y" * 1000}
    assert list(decoder.arrays(decoder.packet(subbuf(event(sample())), 0, SIZE, cpu=0))) == ["sample"]


def test_padding_ends_a_sub_buffer(decoder):
    page = subbuf(event(sample()), struct.pack("<I", 29), event(sample()))
    assert len(records(decoder, page)) == 1


def test_the_loss_before_a_sub_buffer_is_masked_and_told(decoder):
    upper = 0xFFFFFFFF << 32  # the kernel adds a negative int
    assert commit_of(subbuf(event(sample()))) == (len(event(sample())), 0)
    assert commit_of(subbuf(event(sample()), flags=upper | 1 << 31)) == (len(event(sample())), None)
    page = subbuf(event(sample()), flags=upper | 3 << 30, count=17)
    assert commit_of(page) == (len(event(sample())), 17)
    assert len(records(decoder, page)) == 1


@pytest.mark.parametrize(
    "data",
    [struct.pack("<I", 28), struct.pack("<II", 0, 5000), struct.pack("<II", 0, 3), struct.pack("<I", 30)],
)
def test_a_sub_buffer_that_makes_no_sense_is_refused(decoder, data):
    with pytest.raises(TraceError):
        records(decoder, subbuf(event(sample()), data))


def test_events_that_make_no_sense_are_cut_not_followed(decoder, rng):
    for size in range(0, len(sample()), 4):
        assert len(records(decoder, subbuf(event(sample()[:size] or b"\7\0\0\0")))) == 1
    for _ in range(2000):
        data = bytearray(sample())
        for _ in range(3):
            data[rng.randrange(8, len(data))] = rng.randrange(256)
        (record,) = records(decoder, subbuf(event(bytes(data))))
        assert set(record.fields) >= {"text", "bytes", "near"}
    page = bytearray(subbuf(*[event(sample())] * 20))
    for _ in range(2000):
        bad = bytearray(page)
        for _ in range(4):
            bad[rng.randrange(16, 1800)] = rng.randrange(256)
        try:
            records(decoder, bytes(bad))
        except TraceError:
            pass


def test_events_without_a_format_are_counted(decoder):
    assert len(records(decoder, subbuf(event(b"\xff\xff" + bytes(6)), event(sample())))) == 1
    assert decoder.unknown == 1
    only = KernelDecoder(decoder._events, metadata.ClockInfo(10**9), only={5})
    assert only.packet(subbuf(event(sample())), 0, SIZE, cpu=0) == b""


def test_ranges_outside_the_sub_buffer_are_refused():
    packets = KernelPackets(bytes(16), {})
    for page, begin, end in ((bytes(100), 0, 85), (bytes(100), 5, 4), (b"", 0, 0), (bytes(16), 0, 0)):
        with pytest.raises(ValueError):
            packets.packet(page, begin, end, cpu=0)
    with pytest.raises(ValueError):
        KernelPackets(b"short", {})


def test_what_is_no_format_is_refused():
    for text in ("", "name: x\n", "name: x\nID: 1\n\tfield:nonsense\n", "name: x\nID: 1\nformat:\n"):
        with pytest.raises(ValueError):
            parse_format(text)


def test_a_mapping_of_a_file_is_read_only_and_lasts_as_long_as_its_views(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content".ljust(4096, b"."))
    with open(path, "rb") as file:
        view = memoryview(FileMap(file.fileno(), 4096))[:7]
    assert bytes(view) == b"content" and view.readonly
    with pytest.raises(OSError):
        FileMap(-1, 4096)
