"""docs/wishes.md: what it shows is so."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "wishes.md").read_text()
SECTIONS = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", TEXT, re.M | re.S)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_each_wish_is_fulfilled(tmp_path):
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RINGBUF")}
    environment |= {"PATH": path, "PYTHONWARNINGS": "ignore::DeprecationWarning"}  # of forks beside threads
    (program,) = re.findall(r"^```python\n(# shop.py\n.*?)^```", TEXT, re.M | re.S)
    (tmp_path / "shop.py").write_text(program)
    assert len(SECTIONS) == 10
    for title, section in SECTIONS:
        blocks = re.findall(r"^```(sh|python)\n(.*?)^```", section, re.M | re.S)
        assert blocks, title
        for language, text in blocks:
            command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
            assert run(command, tmp_path, environment) == 0, title


def run(command, directory, environment):
    """Its status; what it has left running is ended."""
    with subprocess.Popen(command, cwd=directory, env=environment, start_new_session=True) as started:
        try:
            return started.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
