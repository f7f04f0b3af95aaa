"""docs/integrations.md: its table names every module, and its program runs."""

import re
import subprocess
import sys
from pathlib import Path

import needs

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "integrations.md").read_text()


def test_the_page_has_every_integration():
    modules = {path.stem for path in (ROOT / "src/ringbuf/integrations").glob("*.py")} - {"__init__"}
    rows = "\n".join(line for line in TEXT.splitlines() if line.startswith("| "))
    assert {name for name in modules if not re.search(rf"\b{name}\b", rows)} == set()


def test_its_program_runs(tmp_path):
    needs.module("opentelemetry.sdk.trace")
    (program,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.M | re.S)
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_importing_ringbuf_imports_none_of_them():
    program = "import sys, ringbuf; print([name for name in sys.modules if name.startswith('ringbuf.integrations')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
