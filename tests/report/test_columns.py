"""columns.py: numbers come back as they were, by the rules that are in its words."""

import json
import zlib

import numpy
import pytest

from ringbuf.report.columns import packed


def unpacked(data):
    data = zlib.decompress(data)
    size = int.from_bytes(data[:4], "little")
    about, rest = json.loads(data[4 : 4 + size]), data[4 + size :]
    columns = {}
    for one in about["columns"]:
        planes = numpy.frombuffer(rest, "u1", one["n"] * one["bytes"], one["at"]).reshape(one["bytes"], one["n"])
        values = sum((plane.astype("i8") << 8 * i for i, plane in enumerate(planes)), numpy.zeros(one["n"], "i8"))
        if one["signed"]:
            values = (values >> 1) ^ -(values & 1)
        columns[one["name"]] = (numpy.cumsum(values) if one["delta"] else values).tolist()
    return about["head"], columns


@pytest.mark.parametrize("is_sorted", [False, True])
@pytest.mark.parametrize("values", [[], [0], [5, 3, 9], [-1, 2**40, -(2**40), 0], list(range(1000)), [255, 256, 65536]])
def test_columns_come_back(values, is_sorted):
    head, columns = unpacked(packed({"a": "\ud800</script>"}, {"x": values, "y": [1]}, ["x"] if is_sorted else []))
    assert columns == {"x": values, "y": [1]} and head == {"a": "\ud800</script>"}


def test_what_is_sorted_takes_little():
    times = numpy.arange(100_000) * 1000 + 10**15
    assert len(packed({}, {"x": times}, ["x"])) < 2000
