"""The instructions of a record, counted by valgrind, are those in figures.json: a slow-down shows as a number.

Times of a shared machine say nothing about a few per cent; counts do, and each run gives the same. They depend on the
compiler: figures are kept for each, and `make guard` writes those of this machine's.
"""

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import calls
import needs
import pytest

import ringbuf

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "guard"
FIGURES = HERE / "figures.json"
CC = os.environ.get("CC", "cc")
# As setup.py compiles the extension.
FLAGS = ["-std=gnu11", "-O2", "-g", "-fPIC", "-ftls-model=initial-exec", "-pthread", f"-I{ROOT / 'include'}"]
TOLERANCE = 0.03
RECORDS, CALLS = 1000, 500  # counted.c, calls.py
COMPILED = "__pyx_f_7ringbuf_5_core_{}"  # a function of calls.COUNTED
WRITE = bool(os.environ.get("RINGBUF_GUARD_WRITE"))


def compiler():
    """For example "x86_64 gcc 12"."""
    text = subprocess.run([CC, "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout
    name = "clang" if "clang" in text else "gcc"
    major = re.search(r"(\d+)[.]", text.splitlines()[0])[1]
    return f"{platform.machine()} {name} {major}"


def build(name, *flags):
    needs.command("valgrind")
    if not Path("/usr/include/valgrind/callgrind.h").exists():
        needs.missing("valgrind's header callgrind.h")
    BUILD.mkdir(parents=True, exist_ok=True)
    source, target = HERE / f"{name}.c", BUILD / name
    subprocess.run([CC, *FLAGS, *flags, "-o", target, source], check=True)
    return target


def count(name, command, turns, *options):
    """Instructions for each turn, by the name of the part. Leaves the parts for callgrind_annotate."""
    for old in BUILD.glob(f"{name}.callgrind*"):
        old.unlink()
    valgrind = ["valgrind", "--tool=callgrind", "--dump-instr=yes", f"--callgrind-out-file={BUILD / name}.callgrind"]
    whole = [*valgrind, *options, *command]
    done = subprocess.run(whole, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout
    counts = {}
    for part in BUILD.glob(f"{name}.callgrind.*"):
        text = part.read_text()
        desc = re.search(r"^desc: Trigger: Client Request: (.*)", text, re.M)
        if desc:
            counts[desc[1]] = round(int(re.search(r"^(?:totals|summary): (\d+)", text, re.M)[1]) / turns, 1)
    return counts


def compare(what, counts):
    """With the figures kept for this compiler; or keep these."""
    kept = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    key = f"{what}, {compiler()}"
    if WRITE:
        kept[key] = counts
        FIGURES.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")
        return
    if key not in kept:
        pytest.skip(f"no figures for {key}: `make guard` adds them")
    assert counts.keys() >= kept[key].keys()  # of a new kind, `make guard` under this interpreter adds figures
    off = {
        name: f"{kept[key][name]} instructions were {counts[name]} now"
        for name in kept[key]
        if abs(counts[name] - kept[key][name]) > max(TOLERANCE * kept[key][name], 1)
    }
    assert not off, f"{off}; if that is meant, `make guard` writes the new figures, to be committed"


def test_a_record_from_c_takes_as_many_instructions_as_it_did():
    counts = count("counted", [build("counted")], RECORDS)
    assert len(counts) == 11, counts
    compare("C", counts)


def test_a_call_from_python_takes_as_many_instructions_as_it_did():
    extension = Path(ringbuf._core.__file__).read_bytes()
    counted = [COMPILED.format(name) for names in calls.COUNTED.values() for name in names]
    if any(name.encode() not in extension for name in counted):
        pytest.skip("the extension is stripped: callgrind cannot tell where the call begins")
    counter = build("counter", "-shared")
    # valgrind's threads have no restartable sequences: what the C library does instead is left out
    toggles = [f"--toggle-collect={name}" for name in [*counted, "ringbuf_cpu_slow*"]]
    counts = count("calls", [sys.executable, HERE / "calls.py", counter], CALLS, *toggles)
    assert len(counts) == 11, counts
    # What counting is for: it costs a third of a record at most.
    assert 3 * counts["a counter with labels, and n"] <= counts["one integer"], counts
    compare("Python %d.%d" % sys.version_info[:2], counts)
