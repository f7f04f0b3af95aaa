"""plain.py: JSON that everybody reads."""

import json

import pytest

from ringbuf.trace.plain import plain, to_json


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"a": [1, 2.5, None, True, "\u00e9"]}, {"a": [1, 2.5, None, True, "\u00e9"]}),
        ([b"\x00\xff", [b""]], ["00ff", [""]]),
        ([float("nan"), float("inf"), -float("inf")], ["nan", "inf", "-inf"]),
        ({"\udcff": "a\udcff\U0001f600"}, {"\ufffd": "a\ufffd\U0001f600"}),
        ([float("nan"), b"\x01", "\udc80"], ["nan", "01", "\ufffd"]),
        (2**64 - 1, 2**64 - 1),
    ],
)
def test_every_value_becomes_json(value, expected):
    line = to_json(value)
    assert json.loads(line.encode(), parse_constant=pytest.fail) == expected
    assert plain(value) == expected
    assert "\n" not in line
