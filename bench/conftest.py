"""Benchmarks: the timed loops, compiled, and the floor measured in the same run.

Only ratios taken in one run mean anything: every benchmark puts its own into
``extra_info``, which ``--benchmark-json`` writes out.
"""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

import ringbuf

HERE = Path(__file__).parent
BUILD = HERE.parent / "build" / "bench"


@pytest.fixture(scope="session")
def loops():
    """The functions of bench/c/loops.c."""
    BUILD.mkdir(parents=True, exist_ok=True)
    source, target = HERE / "c" / "loops.c", BUILD / "loops.so"
    command = [os.environ.get("CC", "cc"), "-std=gnu11", "-O2", "-shared", "-fPIC", "-fvisibility=hidden"]
    # as the extension module is built: a thread-local costs one instruction
    command += ["-ftls-model=initial-exec", "-pthread", f"-I{ringbuf.get_include()}", str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    library = ctypes.CDLL(str(target))
    for name in ("loop_floor", "loop_clock", "loop_record"):
        getattr(library, name).restype = ctypes.c_double
    library.loop_floor.argtypes = library.loop_clock.argtypes = [ctypes.c_uint64]
    library.loop_record.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)]
    library.attach.restype = ctypes.c_void_p
    library.attach.argtypes = [ctypes.c_char_p]
    library.drain.argtypes = library.detach.argtypes = [ctypes.c_void_p]
    library.drain.restype = library.detach.restype = None
    library.loop_map.restype = library.loop_kernel_map.restype = ctypes.c_double
    library.loop_map.argtypes = [ctypes.c_void_p, ctypes.c_uint64]
    library.loop_kernel_map.argtypes = [ctypes.c_int, ctypes.c_uint64]
    library.map_open.restype = ctypes.c_void_p
    library.map_open.argtypes = library.map_close.argtypes = [ctypes.c_void_p]
    library.map_close.restype = None
    return library


@pytest.fixture
def one_cpu():
    """Stay on one CPU: the last of those allowed."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    yield
    os.sched_setaffinity(0, allowed)
