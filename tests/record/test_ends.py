"""ends.py: what is a good end of a process, on every way to start one; and what is done then."""

import os

import pytest
import rings

import ringbuf

CHILD = """
import multiprocessing, os, signal, sys, threading, time
import rings, ringbuf

def again():
    ringbuf.Tracer("again", subbuf_size=4096, n_subbufs=2, streams="global").event("step")()

def work(ending):
    tracer = ringbuf.Tracer("work", subbuf_size=4096, n_subbufs=2, streams="global")
    tracer.event("step", n="u32")(1)
    exec(ending)

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(sys.argv[2],))
    child.start()
    child.join()
    print(child.exitcode)
"""
START = """
import runpy, sys
del sys.argv[0]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
METHODS = ["fork", "forkserver", "spawn"]


@pytest.fixture
def flights(tmp_path, monkeypatch):
    """RINGBUF_DIR; a callable that says how many files are there."""
    monkeypatch.setenv("RINGBUF_DIR", str(tmp_path / "flights"))
    (tmp_path / "flights").mkdir()
    return lambda: len(os.listdir(tmp_path / "flights"))


def run(tmp_path, text, *args):
    """Run a program from a file, which children started by spawn can import. What it printed."""
    (tmp_path / "program.py").write_text(text)
    return rings.run_script(START, tmp_path / "program.py", *args)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("ending", "left"),
    [
        ("pass", 0),
        ("sys.exit()", 0),
        ("sys.exit(0)", 0),
        ("threading.Thread(target=lambda: time.sleep(0.2)).start()", 0),
        ("try: 1 / 0\nexcept ArithmeticError: pass", 0),
        ("rings.in_thread(again)", 0),
        ("rings.in_thread(again); 1 / 0", 2),
        ("sys.exit(3)", 1),
        ("sys.exit('it went wrong')", 1),
        ("raise RuntimeError('nobody catches this')", 1),
        ("raise KeyboardInterrupt", 1),
        ("os._exit(0)", 1),
        ("os.kill(os.getpid(), signal.SIGTERM)", 1),
        ("os.execv('/bin/true', ['true'])", 1),
        ("ringbuf.finish(); os._exit(0)", 0),
        ("ringbuf.finish(well=False); os._exit(0)", 1),
    ],
)
def test_a_child_of_multiprocessing_that_ends_well_leaves_no_file(flights, tmp_path, method, ending, left):
    run(tmp_path, CHILD, method, ending)
    assert flights() == left


@pytest.mark.parametrize("method", METHODS)
def test_workers_of_a_pool_that_end_well_leave_no_file(flights, tmp_path, method):
    printed = run(
        tmp_path,
        """
import multiprocessing, sys
import ringbuf

def work(n):
    tracer = ringbuf.Tracer("work", subbuf_size=4096, n_subbufs=2, streams="global")
    return tracer.event("step")()

if __name__ == "__main__":
    with multiprocessing.get_context(sys.argv[1]).Pool(2, maxtasksperchild=1) as pool:
        print(sum(pool.map(work, range(4), chunksize=1)))
        pool.close()
        pool.join()
""",
        method,
    )
    assert int(printed) == 4
    assert flights() == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("fails", [False, True])
def test_workers_of_concurrent_futures_end_well_whatever_becomes_of_a_task(flights, tmp_path, method, fails):
    run(
        tmp_path,
        """
import concurrent.futures, multiprocessing, sys
import ringbuf

def work(n):
    ringbuf.Tracer("work", subbuf_size=4096, n_subbufs=2, streams="global").event("step")()
    if sys.argv[2] == "True":
        raise ValueError

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        for one in [pool.submit(work, n) for n in range(4)]:
            one.exception()
""",
        method,
        fails,
    )
    assert flights() == 0


def test_a_daemon_child_that_its_parent_terminates_was_killed(flights, tmp_path):
    run(
        tmp_path,
        """
import multiprocessing, time
import ringbuf

def work(ready):
    ringbuf.Tracer("work", subbuf_size=4096, n_subbufs=2, streams="global").event("step")()
    ready.set()
    time.sleep(60)

if __name__ == "__main__":
    ready = multiprocessing.Event()
    multiprocessing.Process(target=work, args=(ready,), daemon=True).start()
    ready.wait()
""",
    )
    assert flights() == 1


@pytest.mark.parametrize("method", METHODS)
def test_a_recorder_in_a_child_is_stopped_also_by_an_exception(tmp_path, method):
    run(
        tmp_path,
        """
import multiprocessing, sys
import ringbuf

def work(directory):
    tracer = ringbuf.Tracer("work", mode="discard", subbuf_size=4096, n_subbufs=2, streams="global")
    tracer.record(directory)
    tracer.event("step")()
    raise RuntimeError("nobody catches this")

if __name__ == "__main__":
    child = multiprocessing.get_context(sys.argv[1]).Process(target=work, args=(sys.argv[2],))
    child.start()
    child.join()
""",
        method,
        tmp_path / "trace",
    )
    assert ringbuf.open_trace(tmp_path / "trace").count() == {"step": 1}


ENDS = """
import os, signal, sys, threading
import ringbuf
tracer = ringbuf.Tracer("work", mode="discard", subbuf_size=4096, n_subbufs=2, streams="global")
recorder = tracer.record(sys.argv[1])
for n in range(100):
    tracer.event("step", n="u32")(n)
"""


@pytest.mark.parametrize(
    ("ending", "left"),
    [
        ("", 0),
        ("sys.exit(1)", 0),
        ("raise KeyboardInterrupt", 0),
        ("signal.signal(15, lambda *args: sys.exit(0)); os.kill(os.getpid(), 15)", 0),
        ("t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()", 0),
        ("ringbuf.finish(); os._exit(0)", 0),
        ("ringbuf.finish(); os.kill(os.getpid(), 15)", 0),
        ("ringbuf.finish(); os.execv('/bin/true', ['true'])", 0),
        ("1 / 0", 1),
        ("sys.excepthook = lambda *args: sys.exit(3)\n1 / 0", 1),
        ("sys.excepthook = lambda *args: None\n1 / 0", 1),
    ],
)
def test_a_program_that_comes_to_its_end_has_its_trace(flights, tmp_path, ending, left):
    rings.script(ENDS + ending, tmp_path / "trace")
    assert ringbuf.open_trace(tmp_path / "trace").count() == {"step": 100}
    assert flights() == left


def test_finish_in_a_fork_leaves_the_parents_alone(flights, tmp_path):
    rings.run_script(
        ENDS
        + """
if os.fork() == 0:
    ringbuf.finish()
    os._exit(0)
os.wait()
tracer.event("step", n="u32")(100)
recorder.stop()
""",
        tmp_path / "trace",
    )
    assert ringbuf.open_trace(tmp_path / "trace").count() == {"step": 101}


def test_finish_twice_is_harmless(flights, tmp_path):
    rings.run_script(ENDS + "ringbuf.finish(); ringbuf.finish()", tmp_path / "trace")
    assert ringbuf.open_trace(tmp_path / "trace").count() == {"step": 100}


@pytest.mark.parametrize("when", ["before", "after", "never"])
def test_functions_at_exit_are_called_in_the_programs_order(tmp_path, when):
    """ringbuf imports no multiprocessing for a recorder, and children have ended before it stops."""
    imports = "import multiprocessing, multiprocessing.util"
    printed = rings.run_script(
        f"""
import atexit, os, sys
from ringbuf.record import ends
def say(*words): os.write(1, (" ".join(map(str, words)) + "\\n").encode())  # lines of two processes do not mix
{imports if when == "before" else ""}
atexit.register(say, "first registered")
ends.AtEnd(lambda well: say("ringbuf", well))
atexit.register(say, "last registered")
{imports if when == "after" else ""}
if {when != "never"}:
    multiprocessing.get_context("fork").Process(target=say, args=("child ends",)).start()
assert ({when == "never"}) == ("multiprocessing.util" not in sys.modules)
"""
    ).splitlines()
    assert printed.index("last registered") < printed.index("ringbuf True")
    if when == "never":
        assert printed == ["last registered", "ringbuf True", "first registered"]
    else:
        assert printed.index("child ends") < printed.index("ringbuf True")
