"""Builds the models: build(include, out) compiles what is out of date and returns the program."""

import shlex
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build" / "model"
# -fpermissive: Relacy is older than C++17. No warnings for the same reason: tests/c compiles with all of them.
FLAGS = ["-std=c++17", "-fpermissive", "-w", "-pipe", f"-I{HERE}"]
MACHINERY = ["explore", "main", "model", "region"]


class BuildError(Exception):
    pass


def write_all_models(out):
    """One file that includes all files of models: they compile in a fraction of the time, each in its own namespace."""
    names = sorted(path.stem for path in HERE.glob("*.cc") if path.stem not in MACHINERY)
    text = '#include "model.h"\n' + "".join(f'namespace models_{name} {{\n#include "{name}.cc"\n}}\n' for name in names)
    path = out / "models.cc"
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
    return path


def up_to_date(obj):
    """Is the object newer than all that it was made from, by the compiler's own list?"""
    deps = obj.with_suffix(".d")
    if not obj.exists() or not deps.exists():
        return False
    files = shlex.split(deps.read_text().partition(":")[2].replace("\\\n", " "))
    return all(Path(f).exists() and Path(f).stat().st_mtime <= obj.stat().st_mtime for f in files)


def run(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise BuildError(f"{shlex.join(map(str, command))}\n{done.stdout}")


def compile_one(source, include, out, optimize):
    obj = out / (source.stem + ".o")
    if not up_to_date(obj):
        run(["g++", *FLAGS, optimize, f"-I{include}", "-MMD", "-c", source, "-o", obj])
    return obj


def build(include=ROOT / "include", out=BUILD, jobs=2, reuse=(), optimize="-O2"):
    """`reuse`: objects that do not depend on the headers under test, to be had from the ordinary build."""
    out.mkdir(parents=True, exist_ok=True)
    sources = [write_all_models(out), *(HERE / f"{name}.cc" for name in MACHINERY)]
    with ThreadPoolExecutor(jobs) as pool:
        objects = [
            pool.submit(
                compile_one, source, *((ROOT / "include", BUILD) if source.stem in reuse else (include, out)), optimize
            )
            for source in sources
        ]
    program = out / "models"
    run(["g++", *(obj.result() for obj in objects), "-o", program])
    return program
