"""cli/_signals.py, cli/_program.py: a command that is told to end cleans up, and `record` has a whole trace."""

import os
import re
import signal
import subprocess
import sys

import pytest
import rings
from rings import eventually

import ringbuf

RINGBUF = [sys.executable, "-m", "ringbuf"]
ENDING = [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT]

RECORDED = """
import os, signal, sys, time
import ringbuf
tracer = ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"])
for n in range(100):
    tracer.event("step", n="u32")(n)
open(sys.argv[1] + ".draft", "w").write(f"{os.getpid()} {os.environ['RINGBUF_CHANNEL']}")
os.rename(sys.argv[1] + ".draft", sys.argv[1])
time.sleep(110)
"""


def start_recording(tmp_path, text=RECORDED, **options):
    """`ringbuf record`; the program's pid and the channel's path, when it has recorded."""
    command = [*RINGBUF, "record", "-o", tmp_path / "trace", "--", sys.executable, "-c", text, tmp_path / "ready"]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True, **options)
    eventually((tmp_path / "ready").exists, 60)
    pid, channel = (tmp_path / "ready").read_text().split()
    return process, int(pid), channel


def is_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("number", ENDING)
@pytest.mark.parametrize("times", [1, 3])
def test_a_signal_goes_to_the_program_and_the_trace_is_whole(tmp_path, number, times):
    process, pid, channel = start_recording(tmp_path)
    for _ in range(times):
        process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number, said
    assert "100 records" in said
    assert is_ended(pid)
    assert not os.path.exists(os.path.dirname(channel))
    assert ringbuf.open_trace(tmp_path / "trace").count() == {"step": 100}


def test_a_program_that_handles_a_signal_ends_as_it_likes(tmp_path):
    text = "import signal, sys\nsignal.signal(15, lambda *args: sys.exit(7))\n" + RECORDED
    process, _, _ = start_recording(tmp_path, text)
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 7


def test_the_program_finds_signals_as_they_were(tmp_path):
    """Its mask, and what is ignored: as without us, also under nohup."""
    text = "print(open('/proc/self/status').read())"

    def shown(*before):
        def prepare():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])

        done = subprocess.run(
            [*before, sys.executable, "-c", text], preexec_fn=prepare, capture_output=True, text=True, check=True
        )
        sets = re.findall(r"^(?:SigBlk|SigIgn):\s*(\w+)", done.stdout, re.M)
        return [int(one, 16) & ~(3 << 31) for one in sets]  # 32 and 33 are the C library's own

    assert shown(*RINGBUF, "record", "-o", str(tmp_path / "trace"), "--") == shown()


def test_ctrl_c_reaches_the_program_once(tmp_path):
    """The terminal tells all processes in the foreground."""
    import pty

    text = RECORDED.replace("time.sleep(110)", "") + (
        "seen = []\n"
        "signal.signal(2, lambda *args: seen.append(1))\n"
        "open(sys.argv[1] + '.now', 'w').close()\n"
        "until = time.monotonic() + 100\n"
        "while not seen and time.monotonic() < until: time.sleep(0.05)\n"
        "time.sleep(0.5)\n"
        "sys.exit(10 + len(seen))\n"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        command = [*RINGBUF, "record", "-o", tmp_path / "trace", "--", sys.executable, "-c", text, tmp_path / "ready"]
        os.execv(sys.executable, [str(part) for part in command])
    eventually((tmp_path / "ready.now").exists, 60)
    os.write(terminal, b"\x03")
    assert rings.exit_code(pid) == 11
    os.close(terminal)


@pytest.mark.parametrize("number", ENDING)
def test_an_export_that_is_ended_leaves_no_draft(tmp_path, number):
    with ringbuf.Tracer("t", mode="discard", n_subbufs=64, streams="global") as tracer:
        step = tracer.event("step", n="u32")
        with tracer.record(tmp_path / "trace"):
            for n in range(600_000):
                step(n)
    status = 0
    while status == 0:  # again, if it had written everything before it was told
        (tmp_path / "x.json").unlink(missing_ok=True)
        process = subprocess.Popen(
            [*RINGBUF, "export", tmp_path / "trace", "-o", tmp_path / "x.json"], stderr=subprocess.PIPE, text=True
        )
        eventually(lambda: len(os.listdir(tmp_path)) == 2)
        process.send_signal(number)
        process.communicate(timeout=60)
        status = process.returncode
    assert status == 128 + number
    assert os.listdir(tmp_path) == ["trace"]


@pytest.mark.parametrize("mode", ["discard", "overwrite"])
def test_a_full_disk_changes_no_exit_status_and_the_counts_are_printed(tmp_path, tiny_disk, mode):
    (tiny_disk / "ballast").write_bytes(bytes(900_000))
    text = """
import os, sys, ringbuf
step = ringbuf.Tracer.attach(os.environ["RINGBUF_CHANNEL"]).event("step", text="str")
for n in range(1000):
    step("x" * 1000)
sys.exit(3)
"""
    done = subprocess.run(
        [*RINGBUF, "record", "--mode", mode, "-o", tiny_disk / "trace", "--", sys.executable, "-c", text],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "could not be written" in done.stderr
    assert f"{tiny_disk / 'trace'}: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr
