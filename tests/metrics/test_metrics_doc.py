"""docs/metrics.md: its programs run, in their order, and print what it says."""

import re
import subprocess
import sys
from pathlib import Path

TEXT = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()


def test_the_programs_of_the_page_run(tmp_path):
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S))
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == re.findall(r"print\(.*\)  # (.*)", program)
