"""units.py: numbers as people read them."""

import pytest

from ringbuf.trace.units import duration_text, short


@pytest.mark.parametrize(
    "ns, text",
    [(0, "0 ns"), (999, "999 ns"), (1000, "1.00 us"), (12_345, "12.3 us"), (999_499, "999 us"), (3_250_000, "3.25 ms"),
     (61_000_000_000, "61.0 s"), (3_600_000_000_000, "3600 s"), (-1500, "-1.50 us")],
)  # fmt: skip
def test_durations_have_three_digits(ns, text):
    assert duration_text(ns) == text


@pytest.mark.parametrize(
    "number, text", [(0, "0"), (9999, "9999"), (10_000, "10.0k"), (999_949, "999.9k"), (1e6, "1.0M"), (2e15, "2000.0T")]
)
def test_numbers_are_short(number, text):
    assert short(number) == text
