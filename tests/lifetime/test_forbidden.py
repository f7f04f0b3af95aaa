"""What a sandbox forbids is named by the error, with what to do."""

import os
import platform

import pytest
import rings

# A filter by which system calls fail with EPERM: load the number; for each, jump to the end; allow; refuse.
FORBID = """
import ctypes, os, struct, sys
def forbid(*numbers):
    code = [(0x20, 0, 0, 0)]
    code += [(0x15, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
    code += [(0x06, 0, 0, 0x7FFF0000), (0x06, 0, 0, 0x00050001)]
    filter = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    program = struct.pack("@HxxxxxxP", len(code), ctypes.addressof(filter))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
import ringbuf
"""
X86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers of system calls are x86-64's")


@X86_64
def test_memory(tmp_path):
    code = """
forbid(319)
try:
    ringbuf.Channel("c")
except PermissionError as error:
    print("memfd_create" in str(error) and "path" in str(error))
with ringbuf.Channel("c", path="flight.ring") as channel:
    print(channel.write(b"x"))
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "True\nTrue\n"


@X86_64
@pytest.mark.parametrize("where", ["main", "thread"])
def test_robust_locks(tmp_path, where):
    code = f"""
import threading
def run():
    forbid(273, 274)
    try:
        ringbuf.Channel("c")
    except OSError as error:
        print("get_robust_list" in str(error))
if {where == "main"}:
    run()
else:
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_another_user_than_the_one_who_opened_the_file(tmp_path):
    code = """
import ringbuf.record.recorder, ringbuf.live.mapping
os.mkdir("traces"); os.chown("traces", 65534, 65534); os.chmod(".", 0o755)
channel = ringbuf.Channel("c", path="flight.ring")
os.setresuid(65534, 65534, 65534)
assert channel.write(b"x")
for use in (channel.reader, channel.map, lambda: ringbuf.Recorder(channel, "traces/one")):
    try:
        use()
    except ringbuf.RegionError as error:
        assert "flight.ring" in str(error) and "may not open" in str(error), error
    else:
        raise AssertionError(use)
print("refused")
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "refused\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else, whose processes are counted")
def test_threads(tmp_path):
    code = """
import resource, ringbuf.record.recorder
channel = ringbuf.Channel("c")
os.mkdir("traces"); os.chown("traces", 65533, 65533)
where = os.open("traces", os.O_RDONLY)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
os.setresuid(65533, 65533, 65533)
os.fchdir(where)
try:
    ringbuf.Recorder(channel, f"/proc/self/fd/{where}/trace")
except OSError as error:
    print("no thread can be made" in str(error), os.listdir(where))
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "True []\n"


@X86_64
def test_a_thread_of_the_recorder(tmp_path):
    code = """
import ringbuf.record.recorder
channel = ringbuf.Channel("c")
forbid(56, 435)
try:
    ringbuf.Recorder(channel, "trace")
except OSError as error:
    print("no thread can be made" in str(error) and "clone" in str(error))
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "True\n"


@X86_64
def test_a_place_for_the_thread_of_the_recorder(tmp_path):
    code = """
import warnings
import ringbuf.record.recorder
channel = ringbuf.Channel("c", mode="discard")
forbid(273)
with warnings.catch_warnings(record=True) as told, ringbuf.Recorder(channel, "trace"):
    channel.write(b"x")
print("newest records are missing" in str(told[0].message) and "set_robust_list" in str(told[0].message))
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "True\n"


@pytest.mark.parametrize("path", [None, "c.ring"])
def test_a_file_of_that_size(tmp_path, path):
    code = f"""
import resource
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000))
try:
    ringbuf.Channel("c", path={path!r})
except OSError as error:
    print("ulimit -f" in str(error), os.listdir())
"""
    assert rings.run_script(FORBID + code, cwd=tmp_path) == "True []\n"
