"""A short run of corrupt.py for two kinds of channel."""

import subprocess
import sys
from pathlib import Path

import corrupt
import pytest


@pytest.mark.slow
@pytest.mark.timeout(300)  # locks are waited for, seconds each
@pytest.mark.parametrize("mode, streams", [("discard", "per-cpu"), ("overwrite", "global")])
def test_nobody_crashes_or_hangs_while_somebody_scribbles(mode, streams, seed):
    options = ["--seconds=4", f"--seed={seed}", f"--mode={mode}", f"--streams={streams}"]
    command = [sys.executable, Path(corrupt.__file__), *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    for role in corrupt.ROLES:
        assert f"{role.__name__}: " in done.stdout
