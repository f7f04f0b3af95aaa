"""exec by any thread: what the old program held is free, and the record that it was in the middle of is repaired."""

import subprocess
import sys

import pytest

import ringbuf

PROGRAM = """
import os, sys, threading
import ringbuf

path, rounds, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
tracer = ringbuf.Tracer.attach(path)
event = tracer.event("round", n="u64")

def go_on():
    if not event(rounds):
        os._exit(3)
    if how == "open":
        reservation = tracer.channel.reserve(8)
    if not rounds:
        os._exit(0)
    os.execv(sys.executable, [sys.executable, __file__, path, str(rounds - 1), how])

thread = threading.Thread(target=go_on)
thread.start()
thread.join()
"""


@pytest.mark.parametrize("how", ["idle", "open"])
def test_a_program_that_starts_itself_anew_from_a_thread_gets_its_slot_back(tmp_path, how):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    path = str(tmp_path / "channel")
    with ringbuf.Channel("x", path=path, n_producers=2, streams="global", mode="discard") as channel:
        subprocess.run([sys.executable, program, path, "5", how], check=True)
        channel.repair()
        stats = channel.stats()
        assert stats.records_written == (6 if how == "idle" else 12)
        assert stats.records_torn == (0 if how == "idle" else 6)
        assert stats.records_lost == 0
