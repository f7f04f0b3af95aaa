"""Benchmarks: the timed loops, compiled, and the floor measured in the same run.

Only ratios taken in one run mean anything: every benchmark puts its own into
``extra_info``, which ``--benchmark-json`` writes out, and report.py into tables.
"""

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import compiled
import lttng
import pytest
from core import Patience

import ringbuf
from ringbuf.kernel import tracefs

CPUS = sorted(os.sched_getaffinity(0))


def pytest_addoption(parser):
    parser.addoption(
        "--bench-scale", type=float, default=1.0, help="how much to measure: 1 for figures, less for a look"
    )


def pytest_configure(config):
    Patience.seconds *= 0 if config.getoption("benchmark_disable") else min(1, config.getoption("--bench-scale"))


@pytest.fixture
def scaled(request):
    """A function: how many of n to do. Very few where nothing is timed."""
    config = request.config
    factor = 0.01 if config.getoption("benchmark_disable") else config.getoption("--bench-scale")
    return lambda n, least=1: max(least, int(n * factor))


@pytest.fixture(scope="session")
def loops():
    """The functions of bench/c/loops.c."""
    return compiled.loops("loops")


@pytest.fixture(scope="session")
def cases():
    """The functions of bench/c/cases.c, and those of loops.c again."""
    ns, pointer, u64, out = ctypes.c_double, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64)
    return compiled.library(
        "cases.c",
        loop_floor=(ns, u64),
        loop_clock=(ns, u64),
        loop_record=(ns, pointer, u64, out),
        loop_payload=(ns, pointer, u64, u64, ctypes.c_char_p, out),
        loop_memcpy=(ns, pointer, u64, u64, u64, ctypes.c_char_p),
        loop_paced=(ns, pointer, u64, ctypes.c_double),
        loop_flush=(u64, pointer, ctypes.POINTER(ctypes.c_int), u64),
        sample_records=(ns, pointer, u64, pointer),
        loop_write=(ns, ctypes.c_int, u64),
        attach=(pointer, ctypes.c_char_p),
        drain=(None, pointer),
        detach=(None, pointer),
    )


@pytest.fixture
def attached(cases):
    """A function: the C side of a channel, for as long as the test runs."""
    handles = []

    def attach(channel):
        handles.append(cases.attach(f"/proc/self/fd/{channel.fileno()}".encode()))
        return handles[-1]

    yield attach
    for handle in handles:
        cases.detach(handle)


@pytest.fixture
def one_cpu():
    """Stay on one CPU: the last of those allowed."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


@pytest.fixture
def two_cpus():
    """The numbers of two CPUs."""
    if len(CPUS) < 2:
        pytest.skip("there is one CPU only")
    return CPUS[:2]


@pytest.fixture
def memory_disk():
    """A directory in memory, so that no disk is measured."""
    directory = tempfile.mkdtemp(prefix="ringbuf-bench-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield Path(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def mounted_tracefs(tmp_path_factory):
    """The kernel's tracer has a place while we run, if we may give it one."""
    directory = None
    try:
        tracefs.find_tracefs()
    except tracefs.TracefsError:
        directory = tmp_path_factory.mktemp("tracefs")
        command = ["mount", "-t", "tracefs", "nodev", directory]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            directory = None
    yield
    if directory:
        subprocess.run(["umount", directory], check=True)


@pytest.fixture
def lttng_home():
    """A session daemon of LTTng's, with a home of its own."""
    with lttng.Home() as home:
        yield home


def pytest_benchmark_update_machine_info(config, machine_info):
    machine_info.update(
        kernel=platform.release(),
        compiler=lttng.output([compiled.compiler(), "--version"]).split("\n")[0],
        python=platform.python_version(),
        cpus=len(os.sched_getaffinity(0)),
        ringbuf=ringbuf.__version__,
        scale=config.getoption("--bench-scale"),
    )


def pytest_terminal_summary(terminalreporter):
    """What was not measured, and why."""
    for report in terminalreporter.stats.get("skipped", []):
        if report.nodeid.startswith("bench/"):
            terminalreporter.line(f"not measured: {report.nodeid}: {report.longrepr[2].removeprefix('Skipped: ')}")
