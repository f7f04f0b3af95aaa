"""docs/looking.md: its commands and programs run, in their order."""

import os
import re
import subprocess
import sys
from pathlib import Path

import needs
import pytest

TEXT = (Path(__file__).parents[1] / "docs" / "looking.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)\n(.*?)^```", TEXT, re.M | re.S)


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path):
    needs.module("pyarrow")
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "RINGBUF_DIR": ""}
    (tmp_path / "bin").mkdir()
    said = []
    for language, text in BLOCKS:
        if text.startswith("# shop.py"):
            (tmp_path / "shop.py").write_text(text)
            continue
        command = ["bash", "-euo", "pipefail", "-c", text] if language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), text
        said.append(done.stdout)
    assert len(said) == 8 and (tmp_path / "part.html").stat().st_size > 50_000
    assert "150  order" in said[1] and "3 in" not in said[0]
    assert "KeyError: " in said[-1]
