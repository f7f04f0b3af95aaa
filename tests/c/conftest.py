"""Runs C programs as tests.

Every tests/c/test_*.c is one program of several cases:

    test_commit --list       prints the names of its cases, one a line
    test_commit NAME...      runs these cases; without names, all of them

and prints, for each case, `ok NAME`, `ok NAME # SKIP reason` or `not ok NAME: reason`. The exit status is 1 if any
case failed. Each case is one pytest item; one more item compiles the program with clang, whose warnings differ.

CC chooses the compiler, RINGBUF_CFLAGS adds flags (sanitizers, say); each combination builds in a directory of its own.
RINGBUF_EMULATOR is a command that runs programs of another processor.
"""

import hashlib
import os
import shlex
import signal
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import needs
import pytest

ROOT = Path(__file__).parents[2]
CC = shlex.split(os.environ.get("CC") or "cc")
EMULATOR = shlex.split(os.environ.get("RINGBUF_EMULATOR", ""))
EXTRA = shlex.split(os.environ.get("RINGBUF_CFLAGS", ""))
CFLAGS = ["-std=gnu11", "-g", "-Wall", "-Wextra", "-Werror", "-Iinclude", "-Itests/c", "-pthread", *EXTRA]

compilers = ThreadPoolExecutor(2)


class CompileError(Exception):
    pass


class CaseFailed(Exception):
    pass


def pytest_collect_file(parent, file_path):
    if file_path.suffix == ".c" and file_path.name.startswith("test_") and is_asked_for(file_path, parent.config.args):
        return CProgram.from_parent(parent, path=file_path)


def is_asked_for(path, args):
    """Pytest makes all files of a directory, also if only some were named: these alone are to be compiled."""
    named = [Path(arg.partition("::")[0]).resolve() for arg in args]
    return path in named or any(place in path.parents for place in named)


def pytest_collection_finish():
    compilers.shutdown()  # the tests fork, and forking is safe only while there are no other threads


def compile_program(source, cc):
    """Returns the program, compiled again if its source or any header is newer."""
    key = hashlib.sha1(shlex.join([*cc, *CFLAGS]).encode()).hexdigest()[:8]
    program = ROOT / "build" / "c" / f"{Path(cc[0]).name}-{key}" / source.stem
    inputs = [source, *source.parent.glob("*.h"), *ROOT.glob("include/**/*.h")]
    if program.exists() and program.stat().st_mtime > max(path.stat().st_mtime for path in inputs):
        return program
    program.parent.mkdir(parents=True, exist_ok=True)
    program.unlink(missing_ok=True)
    command = [*cc, *CFLAGS, str(source.relative_to(ROOT)), "-o", str(program.relative_to(ROOT)), "-lm"]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise CompileError(f"{shlex.join(command)}\n{done.stdout}")
    return program


class CProgram(pytest.File):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Pytest makes all files of a directory before it opens the first: they compile side by side.
        self.program = compilers.submit(compile_program, self.path, [*CC, "-O2"])

    def collect(self):
        # A program that cannot list its cases is one failed test, and no reason to stop the whole run.
        try:
            cases = list_cases(self.program.result())
        except (CompileError, CaseFailed, OSError, subprocess.SubprocessError) as error:
            yield CBroken.from_parent(self, name="lists_its_cases", error=error)
            return
        for case in cases:
            yield CCase.from_parent(self, name=case)
        yield CompilesWithClang.from_parent(self, name="compiles_with_clang")


def list_cases(program):
    listing = subprocess.run([*EMULATOR, program, "--list"], stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    cases = listing.stdout.split()
    if not cases or len(cases) != len(set(cases)):
        raise CaseFailed(f"{program.name} --list printed no cases, or one twice: {cases}")
    return cases


class CItem(pytest.Item):
    def reportinfo(self):
        return self.path, None, f"{self.path.name}::{self.name}"

    def repr_failure(self, excinfo):
        if excinfo.errisinstance((CaseFailed, CompileError, subprocess.SubprocessError)):
            return str(excinfo.value)
        return super().repr_failure(excinfo)


class CBroken(CItem):
    def __init__(self, *, error, **kwargs):
        super().__init__(**kwargs)
        self.error = error

    def runtest(self):
        raise self.error


class CCase(CItem):
    def runtest(self):
        program = self.parent.program.result()
        # A file, not a pipe: it can be read after a time-out, and no grandchild holds it open.
        with tempfile.TemporaryFile("w+", errors="replace") as log:
            command = [*EMULATOR, program, self.name]
            child = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, start_new_session=True)
            try:
                child.wait()
            finally:  # with all that it forked
                kill_group(child)
                log.seek(0)
                output = log.read()
                print(output, end="")
        verdict = next((line for line in output.splitlines() if self.is_verdict(line)), "no line for this case")
        if child.returncode or not verdict.startswith("ok "):
            raise CaseFailed(f"{verdict}; exit status {child.returncode} of {program.relative_to(ROOT)} {self.name}")
        if "# SKIP" in verdict:
            pytest.skip(verdict.partition("# SKIP")[2].strip())

    def is_verdict(self, line):
        return line.removeprefix("not ").removeprefix("ok ").split(":")[0].split(" # ")[0] == self.name


def kill_group(child):
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    child.wait()


class CompilesWithClang(CItem):
    def runtest(self):
        compile_program(self.path, [needs.command("clang"), "-O0"])  # for its warnings: it is never run
