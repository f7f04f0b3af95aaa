"""The compiled parts of the benchmarks: bench/c/*.c, built into build/bench/."""

import ctypes
import os
import subprocess
from pathlib import Path

import ringbuf

SOURCES = Path(__file__).parent / "c"
BUILD = SOURCES.parents[1] / "build" / "bench"
# as the extension module is built: a thread-local costs one instruction
FLAGS = ["-std=gnu11", "-O2", "-fvisibility=hidden", "-ftls-model=initial-exec", "-pthread"]
FLAGS += [f"-I{ringbuf.get_include()}"]


def compiler():
    return os.environ.get("CC", "cc")


def build(source, *more, target=None):
    """Compile bench/c/`source`; the path of the result."""
    BUILD.mkdir(parents=True, exist_ok=True)
    target = BUILD / (target or Path(source).stem)
    subprocess.run([compiler(), *FLAGS, str(SOURCES / source), "-o", str(target), *more], check=True)
    return target


def library(source, **functions):
    """A shared library for ctypes; `functions` has (result, *arguments) of each function used."""
    found = ctypes.CDLL(str(build(source, "-shared", "-fPIC", target=Path(source).stem + ".so")))
    for name, (result, *arguments) in functions.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found
