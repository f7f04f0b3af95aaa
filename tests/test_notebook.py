"""notebook.py: %%ringbuf."""

import json
import subprocess
import sys

import browser
import needs
import pytest

import ringbuf

CELL = "def fib(n):\n    return n if n < 2 else fib(n - 1) + fib(n - 2)\nfib(6)\n"


class Shell:
    """As much of IPython as the magic needs."""

    def __init__(self):
        self.magics = {}

    def register_magic_function(self, function, kind, name):
        self.magics[kind, name] = function

    def run_cell(self, cell):
        exec(compile(cell, "<cell>", "exec"), {"__name__": "__main__"})


@pytest.fixture
def magic():
    shell = Shell()
    ringbuf.load_ipython_extension(shell)
    return shell.magics["cell", "ringbuf"]


def test_a_cell_is_recorded_and_shown(magic):
    cell = magic("", CELL)
    counts = {row.name.rpartition(".")[2]: row.count for row in cell.summary}
    assert counts["fib"] == 25
    assert "fib" in cell._repr_html_() and "<table>" in cell._repr_html_() and "fib" in repr(cell)
    assert cell.trace._repr_html_().startswith("<table>")


@pytest.mark.slow
def test_the_report_of_a_cell_is_shown_in_a_frame_that_can_do_nothing_else(magic, tmp_path):
    page = tmp_path / "notebook.html"
    page.write_text(f"<!doctype html><title>notebook</title>{magic('', CELL)._repr_html_()}")
    with browser.chromium() as chromium:
        shown, wrong = browser.page_of(chromium)
        shown.goto(page.as_uri())
        frame = shown.frame_locator("iframe")
        frame.locator("html[data-ready]").wait_for()
        assert "fib" in frame.locator("#summary").inner_text()
        assert wrong == [] and shown.title() == "notebook"


def test_the_trace_may_be_kept_and_functions_chosen(magic, tmp_path):
    magic(f"-o {tmp_path / 'trace'} --include __main__", CELL)
    assert ringbuf.open_trace(tmp_path / "trace").summary("function").rows


@pytest.mark.parametrize("line, error", [("--what", "unrecognized arguments"), ("-o", "expected one argument")])
def test_wrong_options_are_an_error_and_no_exit(magic, line, error):
    with pytest.raises(ValueError, match=f"%%ringbuf: .*{error}"):
        magic(line, CELL)


def test_a_cell_without_calls_says_so(magic):
    with pytest.raises(ringbuf.RingbufError, match="no function was called that is recorded"):
        magic("--include nothing", CELL)


def test_in_a_real_shell():
    needs.module("IPython")
    program = (
        "import json\nfrom IPython.core.interactiveshell import InteractiveShell\n"
        "shell = InteractiveShell.instance()\nshell.run_line_magic('load_ext', 'ringbuf')\n"
        f"cell = shell.run_cell_magic('ringbuf', '', {CELL!r})\n"
        "print(json.dumps({row.name: row.count for row in cell.summary}))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    counts = json.loads(done.stdout.splitlines()[-1])
    assert counts["__main__.fib"] == 25 and not any("IPython" in name for name in counts), done.stderr
