"""Runs the C tests once more, compiled by other means: with a sanitizer, for another processor."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
AARCH64 = {"CC": "aarch64-linux-gnu-gcc", "RINGBUF_CFLAGS": "-static", "RINGBUF_EMULATOR": "qemu-aarch64"}
# Debian's wrapper knows the headers of musl alone; those of the kernel come after them.
KERNEL = " ".join(f"-idirafter /usr/include{place}" for place in ("", f"/{os.uname().machine}-linux-gnu"))
MUSL = {"CC": f"musl-gcc {KERNEL}", "RINGBUF_CFLAGS": ""}
ASAN = {"RINGBUF_CFLAGS": "-fsanitize=address,undefined -fno-sanitize-recover=all"}
TSAN = {"RINGBUF_CFLAGS": "-fsanitize=thread"}


def c_tests(how, *arguments):
    """What pytest prints of them, without the items that compile with clang. They must pass, and be some."""
    environment = {**os.environ, **how}
    for theirs in ("RINGBUF_COUNTS", "RINGBUF_NOT_RUN"):
        environment.pop(theirs, None)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}"
    return done.stdout


def run(how, source, directory, *arguments):
    """Compiles one C source in a directory, and runs it. Returns the finished process."""
    program = Path(directory) / "program"
    flags = ["-std=gnu11", "-O1", "-g", "-w", "-pthread", f"-I{ROOT / 'include'}"]
    compiler = [*how.get("CC", "cc").split(), *flags, *how["RINGBUF_CFLAGS"].split()]
    subprocess.run([*compiler, source, "-o", program], check=True)
    emulator = how.get("RINGBUF_EMULATOR", "").split()
    return subprocess.run([*emulator, program, *arguments], capture_output=True, text=True, check=False)
