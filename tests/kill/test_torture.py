"""A short run of torture.py for each kind of channel; `make kill` has the long one."""

import pytest
import torture


@pytest.mark.timeout(600)
@pytest.mark.parametrize("readers", [False, True], ids=["", "readers too"])
@pytest.mark.parametrize("streams", ["global", "per-cpu"])
@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_random_deaths(mode, streams, readers, tmp_path, seed):
    died, stats = torture.run(tmp_path, mode, streams, readers, deaths=50, seconds=300, seed=seed)
    assert died >= 50
