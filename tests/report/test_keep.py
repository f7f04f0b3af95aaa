"""keep.py: whatever comes, the widest, the slowest of each name and the lost are kept; nothing is counted twice."""

import numpy
import pytest

from ringbuf._decode import Joiner
from ringbuf.report.keep import Kept

DTYPE = Joiner(0, None, 0, {}).take().dtype


def rows_of(durations, names=None, errors=None, ends=None):
    rows = numpy.zeros(len(durations), DTYPE)
    rows["duration"], rows["id"] = durations, numpy.arange(len(durations))
    rows["name"] = 0 if names is None else names
    rows["error"] = 0 if errors is None else errors
    rows["end_missing"] = 0 if ends is None else ends
    return rows


def kept_of(rows, limit, part=500):
    left = []
    kept = Kept(limit, lambda some, lanes: left.append(some["id"].copy()))
    for start in range(0, len(rows), part):
        some = rows[start : start + part]
        kept.add(some, some["id"].astype("u4"))
    found, lanes = kept.finish()
    left = numpy.concatenate([numpy.zeros(0, "u8"), *left])
    assert sorted([*found["id"].tolist(), *left.tolist()]) == list(range(len(rows)))  # each is in one of them
    assert (lanes == found["id"]).all() and kept.n_left == len(left)
    return set(found["id"].tolist())


def test_all_are_kept_where_there_is_room():
    assert kept_of(rows_of(range(100)), 100) == set(range(100))


@pytest.mark.parametrize("seed", range(5))
def test_the_widest_and_the_slowest_of_each_name_and_the_lost_are_kept(seed):
    rng = numpy.random.default_rng(seed)
    n, limit = 20_000, 1000
    durations = rng.integers(0, 10**6, n)
    names = rng.choice([0, 1, 2, 3], n, p=[0.9, 0.0995, 0.0004, 0.0001])
    durations[names == 1] //= 1000  # all of a name are short
    errors, ends = (rng.random(n) < 0.001).astype("u4"), (rng.random(n) < 0.001).astype("u1")
    found = kept_of(rows_of(durations, names, errors, ends), limit)
    assert len(found) <= limit
    assert set(numpy.argsort(durations)[-limit // 4 :].tolist()) <= found
    assert set(numpy.flatnonzero((errors != 0) | (ends != 0)).tolist()) <= found
    for name in range(4):
        some = numpy.flatnonzero(names == name)
        assert set(some[numpy.argsort(durations[some])][-20:].tolist()) <= found


def test_more_names_than_room_keep_the_limit():
    assert len(kept_of(rows_of(range(5000), range(5000)), 100)) <= 100
