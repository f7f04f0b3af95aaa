"""setup.py: whoever cannot build is told in one line what is missing, and a changed file rebuilds what uses it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import needs
import pytest

ROOT = Path(__file__).parents[2]

BUILD = """
import runpy, sys, sysconfig
import setuptools
sysconfig.get_config_vars()  # those of this system, whatever it is said to be
{change}
sys.argv = ["setup.py", "-q", "build_ext", "--build-lib", {folder!r}, "--build-temp", {folder!r}]
runpy.run_path("setup.py", run_name="__main__")
"""

CHANGES = {
    "sys.platform = 'darwin'": "runs on Linux only",
    "sys.maxsize = 2**31 - 1": "needs a 64-bit Python",
    "sysconfig.get_path = lambda *_, **__: '/nowhere'": "/nowhere has no Python.h",
    "import os; os.environ['CC'] = '/nowhere/cc'": "/nowhere/cc is not found",
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_missing_is_said_in_one_line(tmp_path, change):
    code = BUILD.format(change=change, folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("ringbuf") and CHANGES[change] in line
    assert not os.listdir(tmp_path)


def test_an_extension_is_built_again_after_each_file_that_it_includes(monkeypatch):
    setuptools = needs.module("setuptools")
    found = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: found.update(options))
    monkeypatch.chdir(ROOT)
    exec((ROOT / "setup.py").read_text(), {"__name__": "setup"})
    for extension in found["ext_modules"]:
        room = ROOT / "src" / "ringbuf" / extension.name.partition("._")[2]
        included = {path.relative_to(ROOT).as_posix() for path in room.iterdir() if path.suffix in (".h", ".pxi")}
        for path in sorted(included):
            headers = re.findall(r"include <(ringbuf/\w+\.h)>|from \"(ringbuf/\w+\.h)\"", (ROOT / path).read_text())
            included |= {f"include/{one or other}" for one, other in headers}
        assert len(included) > 3 and included <= set(extension.depends)
