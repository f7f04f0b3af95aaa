"""Where ringbuf can be imported: with the GIL off, where it stays off, and in one interpreter of a process."""

import subprocess
import sys
import sysconfig

import pytest

IS_FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))

EVERYTHING = "import ringbuf, ringbuf._core, ringbuf._decode, ringbuf.record.tracer, ringbuf.trace.trace"

SUBINTERPRETER = """
import sys
kind, code = sys.argv[1:]
try:
    import _interpreters as interpreters
    one = interpreters.create(kind)
except ImportError:  # before Python 3.13
    import _xxsubinterpreters as interpreters
    one = interpreters.create(isolated=kind == "isolated")
failed = interpreters.run_string(one, code)
if failed is not None:
    print(failed, file=sys.stderr)
interpreters.destroy(one)
import ringbuf
print("main:", ringbuf.Tracer("main").event("e", n="u8")(1))
"""

TRY = """
try:
    import ringbuf
except ImportError as error:
    print("refused:", error)
else:
    print("works:", ringbuf.Tracer("sub").event("e", n="u8")(1))
import sys
sys.stdout.flush()
"""


def run(program, *arguments, check=True):
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        capture_output=True,
        text=True,
        check=check,
        timeout=60,
    )


@pytest.mark.skipif(not IS_FREE_THREADED, reason="this build has no other way than with a GIL")
def test_importing_leaves_the_gil_off():
    done = run(f"import sys\nassert not sys._is_gil_enabled()\n{EVERYTHING}\nprint(sys._is_gil_enabled())")
    assert done.stdout == "False\n"
    assert not done.stderr


def test_an_isolated_interpreter_is_refused_in_one_line_and_the_main_one_goes_on():
    if sys.version_info < (3, 12):
        pytest.skip("an interpreter is isolated in that way from Python 3.12 on")
    refused, main = run(SUBINTERPRETER, "isolated", TRY).stdout.splitlines()
    assert refused.startswith("refused: ringbuf works in one interpreter of a process")
    assert main == "main: True"


def test_of_those_that_share_the_gil_one_has_it():
    done = run("import ringbuf\n" + SUBINTERPRETER, "legacy", TRY)
    refused, main = done.stdout.splitlines()
    assert refused.startswith("refused: ringbuf works in one interpreter of a process")
    assert main == "main: True"


def test_the_main_interpreter_is_refused_where_another_one_has_it():
    done = run(SUBINTERPRETER, "legacy", TRY, check=False)
    assert done.stdout == "works: True\n"
    assert "ImportError: ringbuf works in one interpreter of a process" in done.stderr.splitlines()[-1]
