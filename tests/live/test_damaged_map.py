"""A meta page that somebody has scribbled on: an error that says so."""

import struct

import pytest

from ringbuf import RegionError
from ringbuf.live.mapping import Mapped


class Page(Mapped):
    """A mapping of bytes: a meta page of 4096, and two sub-buffers."""

    _header_size = 16

    def __init__(self, *, page=4096, size=4096, count=2, reader=0):
        memory = bytearray(3 * 4096)
        struct.pack_into("<IIII", memory, 0, page, 104, size, count)
        struct.pack_into("<QII", memory, 16, 0, reader, 100)
        self._memory = memoryview(memory)

    def _check(self):
        pass


@pytest.mark.parametrize(
    "damage", [{"reader": 2}, {"reader": 2**32 - 1}, {"size": 2**32 - 1}, {"page": 2**31}, {"count": 9, "reader": 8}]
)
def test_what_it_says_is_not_believed(damage):
    page = Page(**damage)
    for look in (lambda: page.reader_data, lambda: page.new_data):
        with pytest.raises(RegionError, match="the meta page is damaged"):
            look()


def test_a_whole_one_is():
    page = Page(reader=1)
    assert (len(page.reader_data), len(page.new_data), len(page.subbuf(1))) == (100, 0, 4096)
    with pytest.raises(IndexError):
        page.subbuf(2)
