"""The examples and the README: built as their readers would, run, and judged by babeltrace2."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import judge
import needs
import pytest
import readme

import ringbuf

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "examples" / "hash_stdlib.py"
README = ROOT / "README.md"
STRICT = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-pthread", "-I", ringbuf.get_include()]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(*command, cwd=None, status=0, **environment):
    """What the command prints, on both outputs."""
    # `python` and what is installed beside it come first, as in an activated environment.
    path = os.pathsep.join([os.path.dirname(sys.executable), os.environ.get("PATH", os.defpath)])
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, "PATH": path, **environment},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == status, done.stdout
    return done.stdout


def rows_of(directory, name):
    with ringbuf.open_trace(directory) as trace:
        return [record.fields for record in trace if record.name == name]


# ---- the demo ----


@pytest.fixture
def tree(tmp_path):
    """A folder to hash: files of many sizes, some that must be left out, and three that are difficult."""
    root = tmp_path / "tree"
    for folder in ("lib-dynload", "package", "site-packages"):
        (root / folder).mkdir(parents=True)
    for number in range(40):
        (root / "package" / f"{number}.py").write_bytes(b"%d\n" % number * number**3)
    (root / "lib-dynload" / "module.so").write_bytes(b"\x7fELF" * 100_000)
    (root / "site-packages" / "not_ours.py").write_bytes(b"x")
    os.mkfifo(root / "pipe")
    (root / "nowhere").symlink_to("missing")
    (root / "package" / "grüße\n.txt").write_bytes(b"")
    Path(os.fsdecode(bytes(root) + b"/not utf-8 \xff")).write_bytes(b"bytes")
    return root


def files_of(tree):
    """Name in the trace -> path, of all files that can be hashed."""
    paths = [path for path in tree.rglob("*") if path.is_file() and "site-packages" not in path.parts]
    return {os.fsencode(path.relative_to(tree)).decode("utf-8", "backslashreplace"): path for path in paths}


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_the_demo_records_every_file_under_every_start_method(tree, tmp_path, method):
    printed = run(sys.executable, DEMO, tmp_path / "trace", "--root", tree, "--start-method", method, "--workers", 3)
    files = files_of(tree)
    assert len(files) == 43
    assert f"44 of 44 files; {2 * 43 + 1} events, 0 lost" in printed
    assert f"events in the trace {2 * 43 + 1}; counted by the tracer {2 * 43 + 1}" in printed

    opened = {row["path"]: row["size"] for row in rows_of(tmp_path / "trace", "file_opened")}
    assert opened == {name: path.stat().st_size for name, path in files.items()}
    hashed = {row["path"]: row for row in rows_of(tmp_path / "trace", "file_hashed")}
    assert hashed.keys() == files.keys()
    for name, path in files.items():
        digest = hashlib.sha256(path.read_bytes()).digest()
        assert hashed[name]["digest"] == digest.hex()[:16]
        assert hashed[name]["head"] == int.from_bytes(digest[:8], "big")
        assert hashed[name]["size"] == path.stat().st_size
        assert hashed[name]["ns"] > 0
    assert rows_of(tmp_path / "trace", "file_unreadable") == [
        {"path": "nowhere", "errno": 2, "reason": "No such file or directory"}
    ]


def test_babeltrace2_reads_the_trace_of_the_demo(tree, tmp_path):
    printed = run(sys.executable, DEMO, tmp_path / "trace", "--root", tree)
    judged = judge.read(tmp_path / "trace")
    assert len(judged.events) == 2 * 43 + 1
    assert not judged.discarded_events and not judged.warnings
    assert {event["fields"]["path"] for event in judged.events} == {*files_of(tree), "nowhere"}
    assert "found by babeltrace2 87" in printed


def test_the_demo_fails_when_babeltrace2_finds_another_number(tree, tmp_path):
    fake = tmp_path / "bin" / "babeltrace2"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\necho '86 Event messages'\n")
    fake.chmod(0o755)
    printed = run(sys.executable, DEMO, tmp_path / "trace", "--root", tree, status=1, PATH=str(fake.parent))
    assert "found by babeltrace2 86" in printed
    assert "these should be the same" in printed


def test_the_demo_replaces_its_own_trace_and_nothing_else(tree, tmp_path):
    trace = tmp_path / "build" / "trace"
    for _ in range(2):
        run(sys.executable, DEMO, trace, "--root", tree)
    assert len(rows_of(trace, "file_hashed")) == 43

    (trace / "notes.txt").write_text("mine")
    assert "choose another directory" in run(sys.executable, DEMO, trace, "--root", tree, status=1)
    assert (trace / "notes.txt").read_text() == "mine"
    (tmp_path / "file").write_text("mine")
    for other in (tree, tmp_path / "file"):
        assert "choose another directory" in run(sys.executable, DEMO, other, "--root", tree, status=1)
    assert (tmp_path / "file").read_text() == "mine"
    assert files_of(tree)


def test_the_demo_writes_its_progress_over_itself_on_a_terminal(tree, tmp_path):
    ours, terminal = os.openpty()
    command = [sys.executable, DEMO, tmp_path / "trace", "--root", tree]
    done = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=terminal, stderr=terminal)
    os.close(terminal)
    printed = b""
    try:
        while block := os.read(ours, 65536):
            printed += block
    except OSError:  # EIO: the other side is closed
        pass
    os.close(ours)
    assert done.wait() == 0
    progress = [line for line in printed.decode().split("\r\n") if "of 44 files" in line]
    assert len(progress) == 1
    assert progress[0].split("\r")[-1].startswith("44 of 44 files")


# ---- the C program ----


def build_c(tmp_path_factory, name):
    """A C program, built by the command in its own comment."""
    folder = tmp_path_factory.mktemp("c")
    source = Path(shutil.copy(ROOT / "examples" / "c" / f"{name}.c", folder)).read_text()
    lines = re.search(r"^ \* Build:\n((?: \*\t.*\n)+)", source, re.MULTILINE)[1]
    run("sh", "-c", re.sub(r"^ \*\t", "", lines, flags=re.MULTILINE), cwd=folder)
    return folder / name


@pytest.fixture(scope="module")
def produce(tmp_path_factory):
    return build_c(tmp_path_factory, "produce")


@pytest.mark.parametrize("name", ["produce", "map"])
def test_the_c_programs_compile_without_warnings(name):
    run("cc", *STRICT, "-fsyntax-only", ROOT / "examples" / "c" / f"{name}.c")


def test_the_mapping_c_program_prints_the_meta_page(tmp_path_factory, tmp_path):
    program = build_c(tmp_path_factory, "map")
    with ringbuf.Channel("c", mode="overwrite", streams="global", subbuf_size=4096, path=tmp_path / "ring") as channel:
        for _ in range(30):
            channel.write(bytes(1000))
        stats = channel.stats()
        printed = run(program, channel.path).splitlines()
        values = [line.split(":")[1].split() for line in printed]
        assert [line.split(":")[0] for line in printed] == ["entries", "overrun", "read", "nr_subbufs", "reader"]
        n_all = 1 + channel.n_subbufs + channel.n_spares
        assert [int(value[0]) for value in values[:4]] == [30, stats.records_overrun, 3, n_all]
        number, at = int(values[4][1].rstrip(",")), int(values[4][3])
        assert at == 4096 * (1 + number)
        with channel.reader():
            assert "busy" in run(program, channel.path, status=1)
        assert "Invalid" in run(program, channel.path, 1, status=1)
    assert "No such file" in run(program, tmp_path / "missing", status=1)


def test_the_c_program_records_into_a_channel_by_descriptor_and_by_path(produce, tmp_path):
    for path in (None, tmp_path / "ring"):
        trace = tmp_path / ("by-descriptor" if path is None else "by-path")
        with ringbuf.Tracer("c", mode="discard", path=path) as tracer, tracer.record(trace):
            target = path or f"/proc/{os.getpid()}/fd/{tracer.channel.fileno()}"
            assert run(produce, target, 4, 500) == "lost 0 of 2000 records\n"
            assert tracer.event("c_tick", thread="u32", n="u64", label="str").id == 0
        expected = [{"thread": t, "n": n, "label": "tock" if n % 2 else "tick"} for t in range(4) for n in range(500)]
        rows = rows_of(trace, "c_tick")
        assert sorted(rows, key=lambda row: (row["thread"], row["n"])) == expected
        for thread in range(4):  # the ring keeps each thread's order
            assert [row["n"] for row in rows if row["thread"] == thread] == list(range(500))
        judged = judge.events(trace)
        assert [event["fields"] for event in judged] == rows
        contexts = [event["contexts"]["stream"] for event in judged]
        assert len({context["vpid"] for context in contexts}) == 1
        assert len({context["vtid"] for context in contexts}) == 4


def test_the_c_program_and_the_channel_count_the_same_losses(produce, tmp_path):
    with ringbuf.Tracer("c", mode="discard", subbuf_size=4096, n_subbufs=2) as tracer:
        printed = run(produce, f"/proc/{os.getpid()}/fd/{tracer.channel.fileno()}", 2, 5000)
        lost = int(re.fullmatch(r"lost (\d+) of 10000 records\n", printed)[1])
        stats = tracer.stats()
        assert lost == stats.records_lost > 0
        assert stats.records_written == 10_000 - lost
        with tracer.record(tmp_path / "trace"):
            pass
    assert len(rows_of(tmp_path / "trace", "c_tick")) == 10_000 - lost


def test_the_c_program_says_what_is_wrong(produce, tmp_path):
    other = tmp_path / "other"
    other.write_bytes(b"not a channel" * 1000)
    assert "wrong magic" in run(produce, other, status=1)
    assert "No such file" in run(produce, tmp_path / "missing", status=1)
    with ringbuf.Channel("c", path=tmp_path / "ring") as channel:
        channel.finalize()
        assert "shutdown" in run(produce, channel.path, status=1)


# ---- the Cython module ----


@pytest.fixture(scope="module")
def sampler(tmp_path_factory):
    """The folder of the module, built by its setup.py."""
    needs.module("Cython")
    needs.module("setuptools")
    folder = tmp_path_factory.mktemp("cython") / "cython"
    shutil.copytree(ROOT / "examples" / "cython", folder, ignore=shutil.ignore_patterns("build", "*.c", "*.so"))
    run(sys.executable, "setup.py", "build_ext", "--inplace", cwd=folder)
    return folder


def test_the_cython_module_records_without_the_gil_into_a_python_channel(sampler, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(sampler)
    from sampler import Sampler

    trace = tmp_path / "trace"
    with ringbuf.Tracer("cython", mode="discard") as tracer, tracer.record(trace):
        descriptor = tracer.channel.fileno()
        samplers = [Sampler(descriptor), Sampler(descriptor)]
        lost = []
        threads = [threading.Thread(target=lambda one=one: lost.append(one.run(300))) for one in samplers * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert lost == [0] * 4
        tracer.event("sample", n="u64", value="f64")(300, 0.5)  # the same event, from Python
        del samplers
        os.fstat(descriptor)  # the descriptor is still ours
    rows = rows_of(trace, "sample")
    assert sorted(row["n"] for row in rows) == sorted([*range(300)] * 4 + [300])
    assert {row["value"] for row in rows if row["n"] == 0} == {0.0}
    assert [event["fields"] for event in judge.events(trace)] == rows
    with pytest.raises(OSError, match="wrong magic"), open(__file__) as file:
        Sampler(os.open(file.name, os.O_RDONLY))
    with pytest.raises(OSError):
        Sampler(-1)


# ---- the README ----


def test_the_tour_in_the_readme_prints_what_it_says(tmp_path):
    script, expected = readme.tour()
    (tmp_path / "tour.py").write_text(script)
    printed = run(sys.executable, "-W", "error::ResourceWarning", "tour.py", cwd=tmp_path)
    assert printed.splitlines() == expected
    assert len(judge.events(tmp_path / "trace")) == 1000


def test_the_c_code_in_the_readme_records(tmp_path):
    ((_, source),) = readme.blocks("c")
    (tmp_path / "tick.c").write_text(source)
    run("cc", *STRICT, "-fsyntax-only", "tick.c", cwd=tmp_path)
    run("sh", "-c", re.search(r"^    (cc .* tick\.c .*)$", README.read_text(), re.MULTILINE)[1], cwd=tmp_path)
    with ringbuf.Channel("c", path=tmp_path / "ring", streams="global") as channel:
        run(tmp_path / "tick", channel.path)
        channel.finalize()
        with channel.reader() as reader:
            assert [(record.name, record.fields) for record in reader.records()] == [("tick", {"n": 17})]


def test_the_readme_names_files_and_commands_that_exist():
    text = README.read_text()
    assert [name for name in re.findall(r"\]\(([^:#)]+)\)", text) if not (ROOT / name).exists()] == []
    folders = re.search(r"## What is where\n\n((?: {4}.*\n)+)", text)[1]
    assert [name for name in re.findall(r"^ {4}(\S+)", folders, re.MULTILINE) if not (ROOT / name).exists()] == []
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {*re.findall(r"(?:`|^ {4})make ([a-z0-9-]+)", text, re.MULTILINE)} <= {*targets}
