"""The site: it builds without a warning, has every public name, and its code runs and prints what it says."""

import os
import re
import subprocess
import sys
from pathlib import Path

import needs
import pytest

import ringbuf

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "docs/index.md", *ROOT.glob("docs/api/*.md"), *ROOT.glob("docs/tutorials/*.md")])
AUTODOC = re.compile(r"^\.\. auto(?:class|function|exception):: ringbuf\.(\w+)$", re.M)


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.M | re.S)


def with_code():
    return [pytest.param(page, id=page.stem) for page in PAGES if blocks(page, "python")]


@pytest.mark.parametrize("page", with_code())
def test_the_code_of_a_page_runs_and_prints_what_it_says(page, tmp_path):
    code = "\n".join(blocks(page, "python"))
    for source in blocks(page, "c"):
        needs.command("cc")
        (tmp_path / "tick.c").write_text(source)
    if "Cython" in code:
        needs.module("Cython")
    (tmp_path / "page.py").write_text(code)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "page.py"], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = [match[1] for line in code.splitlines() if (match := re.search(r"^ *print\(.*\) +# (.*)$", line))]
    assert len(said) == code.count("print(")  # each has its output beside it
    printed = done.stdout.splitlines()
    # what stands behind a colon explains
    assert [
        want.split(":")[0] if one in ("True", "False") else want for one, want in zip(printed, said, strict=True)
    ] == printed


def test_every_public_name_has_a_place_and_an_example():
    text = "\n".join(page.read_text() for page in ROOT.glob("docs/api/*.md"))
    assert sorted(AUTODOC.findall(text)) == sorted(ringbuf.__all__)
    code = "\n".join(code for page in ROOT.glob("docs/api/*.md") for code in blocks(page, "python"))
    classes = {
        "Recovery",
        "Counter",
        "Gauge",
        "Histogram",
        "Event",
        "Reader",
        "Packet",
        "Span",
        "SpanType",
        "Stream",
        "Stats",
        "Reservation",
        "Trace",
    }
    errors = {name for name in ringbuf.__all__ if name.endswith("Error")} | {"EndOfStream"}
    unused = [name for name in ringbuf.__all__ if f"ringbuf.{name}" not in code]
    assert set(unused) <= classes | {"Tracer", "Channel"} | errors  # what other calls give


def test_the_site_builds_without_a_warning(tmp_path):
    needs.module("sphinx")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", tmp_path / "trees", "docs", tmp_path]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    api = "".join(path.read_text() for path in (tmp_path / "api").glob("*.html"))
    assert [name for name in ringbuf.__all__ if f'id="ringbuf.{name}"' not in api] == []
