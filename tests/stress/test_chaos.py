"""A short run of chaos.py; `make chaos TIME=600` is a long one."""

import chaos
import pytest


@pytest.mark.slow
def test_counts_are_exact_however_processes_live_and_end(tmp_path, seed):
    counts = chaos.run(6, seed, tmp_path / "chaos")
    assert counts["records"] > 0
