"""Some traces of random types; run grammar.py for more."""

import grammar


def test_traces_of_random_types_are_read_or_refused(tmp_path):
    for seed in range(100):
        grammar.try_seed(seed, tmp_path)
