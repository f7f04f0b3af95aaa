"""docs/reading.md: its programs run, on a session of several traces."""

import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "reading.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
METADATA = """/* CTF 1.8 */
typealias integer { size = 64; align = 8; map = clock.c.value; } := time;
trace { major = 1; minor = 8; byte_order = le; };
env { hostname = "h"; domain = "%s"; };
clock { name = c; freq = 1000000000; };
stream {
    packet.context := struct { time timestamp_begin; time timestamp_end; integer { size = 32; align = 8; } cpu_id; };
    event.header := struct { time timestamp; integer { size = 8; align = 8; } id; }; };
event { name = "%s"; id = 0; fields := struct { floating_point { exp_dig = 11; mant_dig = 53; align = 8; } ms; }; };
"""


@pytest.fixture
def session(tmp_path):

    for domain, name in (("kernel", "net:packet"), ("ust/uid/0/64-bit", "db:query")):
        folder = tmp_path / "session" / domain
        folder.mkdir(parents=True)
        (folder / "metadata").write_text(METADATA % (domain[:3], name))
        events = b"".join(struct.pack("<QBd", 1000 * n, 0, n) for n in range(1, 11))
        (folder / "channel0_0").write_bytes(struct.pack("<QQI", 0, 20_000, 3) + events)
    return tmp_path


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_its_programs_run(session, block):
    done = subprocess.run([sys.executable, "-c", block], cwd=session, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_there_are_programs():
    assert len(BLOCKS) >= 4
