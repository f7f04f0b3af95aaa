"""decode/levels.h: what is counted is all that was added, in few cells; what is packed hides nothing."""

import numpy
import pytest

from ringbuf._decode import Levels, packed_rows


def added(levels, lanes, begins, durations, whats=None):
    begins, durations = numpy.array(begins, "i8"), numpy.array(durations, "i8")
    whats = numpy.zeros(len(begins), "u4") if whats is None else numpy.array(whats, "u4")
    levels.add(numpy.array(lanes, "u4"), begins, durations, durations, whats)
    return levels.cells()


def test_few_slices_are_in_cells_of_their_own():
    cells = added(Levels(100, 1000, 50), [3, 1], [100, 150], [10, 1])
    assert cells["lane"].tolist() == [1, *[3] * 10] and cells["bin"].tolist() == [50, *range(10)]
    assert cells["n"].sum() == 2 and cells["covered"].sum() == 11 and cells["self"].sum() == 11


@pytest.mark.parametrize("limit", [40, 400, 100_000])
def test_many_slices_keep_their_counts_and_times_in_so_many_cells(limit):
    rng = numpy.random.default_rng(limit)
    begins = rng.integers(0, 10**9, 20_000)
    durations = rng.integers(0, 10**6, 20_000)
    levels = Levels(0, 2 * 10**9, limit)
    cells = added(levels, rng.integers(0, 4, 20_000), begins, durations)
    assert len(cells) == len(levels) <= limit
    assert cells["n"].sum() == 20_000
    assert cells["covered"].sum() == durations.sum()
    assert sorted(zip(cells["lane"], cells["bin"], strict=True)) == list(zip(cells["lane"], cells["bin"], strict=True))


def test_times_are_where_they_were():
    levels = Levels(0, 10**9, 64)
    cells = added(levels, [0] * 1000, range(5 * 10**8, 5 * 10**8 + 10**6, 1000), [10] * 1000)
    first, last = cells["bin"].min() * levels.width, (cells["bin"].max() + 1) * levels.width
    assert first <= 5 * 10**8 and last >= 5 * 10**8 + 10**6 and last - first <= 10**6 + 2 * levels.width


def test_a_cell_tells_what_most_of_its_time_is():
    cells = added(Levels(0, 1 << 40, 10), [0] * 5, [0] * 5, [5, 100, 7, 1, 90], [1, 2, 3, 1, 2])
    assert cells["what"].tolist() == [2]


def test_what_is_before_the_begin_or_damaged_is_counted_somewhere():
    levels = Levels(1000, 2000, 100)
    cells = added(levels, [0, 0, 0], [-(2**63), 0, 2**63 - 1], [2**63 - 1, -5, 2**63 - 1])
    assert cells["n"].sum() == 3 and len(cells) <= 100


@pytest.mark.parametrize("limit", [0, -1, 1 << 40])
def test_a_limit_that_makes_no_sense_is_refused(limit):
    with pytest.raises((ValueError, OverflowError)):
        Levels(0, 1, limit)


def test_columns_that_differ_in_length_are_refused():
    two, one = numpy.zeros(2, "i8"), numpy.zeros(1, "i8")
    with pytest.raises(ValueError, match="differ in length"):
        Levels(0, 1, 10).add(numpy.zeros(2, "u4"), two, one, two, numpy.zeros(2, "u4"))
    with pytest.raises(ValueError, match="differ in length"):
        packed_rows(numpy.zeros(2, "u4"), two, one, numpy.zeros(2, "u4"), 10)


def packed(slices, max_rows=100):
    tracks, begins, ends, wanted = (numpy.array(one) for one in zip(*slices, strict=True))
    return packed_rows(tracks.astype("u4"), begins, ends, wanted.astype("u4"), max_rows).tolist()


def test_what_overlaps_has_rows_of_its_own_and_what_nests_its_depth():
    assert packed([(0, 0, 100, 0), (0, 10, 50, 1), (0, 60, 90, 1)]) == [0, 1, 1]
    assert packed([(0, 0, 100, 0), (0, 10, 150, 0), (0, 20, 30, 1), (0, 120, 130, 0)]) == [0, 1, 2, 0]
    assert packed([(0, 0, 100, 0), (1, 0, 100, 0)]) == [0, 0]


def test_random_slices_never_overlap_in_a_row():
    rng = numpy.random.default_rng(7)
    begins = numpy.sort(rng.integers(0, 10_000, 3000))
    ends = begins + rng.integers(1, 200, 3000)
    rows = packed_rows(numpy.zeros(3000, "u4"), begins, ends, numpy.zeros(3000, "u4"), 1000)
    for row in numpy.unique(rows):
        some = rows == row
        assert (begins[some][1:] >= ends[some][:-1]).all()


def test_more_than_the_rows_share_the_last():
    assert packed([(0, 0, 9, 0), (0, 1, 9, 0), (0, 2, 9, 0), (0, 3, 9, 7)], 2) == [0, 1, 1, 1]
