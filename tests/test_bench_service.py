"""bench/service.py runs, and measures both services. What it finds is not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench" / "service.py"


@pytest.mark.slow
def test_the_bench_of_a_service_measures_both():
    command = [sys.executable, str(BENCH), "--rounds", "2", "--seconds", "1", "--rate", "20"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode in (0, 1) and done.stderr == ""
    assert len(re.findall(r"^p50 \S+ -> \S+ ms, p99 \S+ -> \S+ ms", done.stdout, re.M)) == 2
    assert "p99 with everything on" in done.stdout.splitlines()[-1]
