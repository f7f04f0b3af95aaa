"""The compiled parts of the benchmarks: bench/c/*.c, built into build/bench/."""

import ctypes
import importlib.util
import os
import subprocess
import sys
import sysconfig
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


def library(source, *more, name=None, **functions):
    """A shared library for ctypes; `functions` has (result, *arguments) of each function used."""
    found = ctypes.CDLL(str(build(source, "-shared", "-fPIC", *more, target=f"{name or Path(source).stem}.so")))
    for name, (result, *arguments) in functions.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


def loops(name, *flags):
    """The functions of c/loops.c, compiled with more flags into a library of that name."""
    turns = ctypes.c_double, ctypes.c_uint64
    return library(
        "loops.c",
        *flags,
        name=name,
        loop_floor=turns,
        loop_clock=turns,
        loop_record=(ctypes.c_double, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)),
        attach=(ctypes.c_void_p, ctypes.c_char_p),
        drain=(None, ctypes.c_void_p),
        detach=(None, ctypes.c_void_p),
        loop_map=(ctypes.c_double, ctypes.c_void_p, ctypes.c_uint64),
        loop_kernel_map=(ctypes.c_double, ctypes.c_int, ctypes.c_uint64),
        map_open=(ctypes.c_void_p, ctypes.c_void_p),
        map_close=(None, ctypes.c_void_p),
    )


def metrics():
    """The functions of c/metrics.c."""
    ns, pointer, u64 = ctypes.c_double, ctypes.c_void_p, ctypes.c_uint64
    return library(
        "metrics.c",
        loop_add=(ns, u64),
        loop_metric=(ns, pointer, ctypes.c_int, u64),
        attach=(pointer, ctypes.c_char_p),
        detach=(None, pointer),
    )


def extension(source):
    """A module written in C, or in Cython, which must be installed; imported."""
    name = Path(source).stem
    BUILD.mkdir(parents=True, exist_ok=True)
    translated = SOURCES / source
    if translated.suffix == ".pyx":
        translated = BUILD / f"{name}.c"
        subprocess.run([sys.executable, "-m", "cython", "-3", str(SOURCES / source), "-o", str(translated)], check=True)
    target = f"{name}{sysconfig.get_config_var('EXT_SUFFIX')}"
    include = f"-I{sysconfig.get_paths()['include']}"
    spec = importlib.util.spec_from_file_location(
        name, build(translated, "-shared", "-fPIC", "-w", include, target=target)
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
