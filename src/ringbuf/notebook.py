"""``%load_ext ringbuf``: the cell magic ``%%ringbuf``, which records the calls of a cell and shows its report."""

from __future__ import annotations

import argparse
import html
import shlex
import tempfile

from .errors import RingbufError

__all__ = ["Cell", "register"]

#: What runs a cell.
_NOTEBOOK = ("IPython", "ipykernel", "traitlets", "zmq", "tornado", "jupyter_client")


class Cell:
    """What a cell did: the result of ``%%ringbuf``, shown as the page of `Trace.report`, and as a table.

    Attributes
    ----------
    trace : Trace
        Its directory goes with this object, unless ``-o`` named it.
    summary : Summary
        Of the functions and spans.
    """

    def __init__(self, trace, folder: tempfile.TemporaryDirectory | None) -> None:
        self.trace = trace
        self._folder = folder
        self.summary = trace.summary(top=30)

    def __repr__(self) -> str:
        return str(self.summary)

    def _repr_html_(self) -> str:
        """The report in a frame of its own: it can do nothing to the notebook, nor fetch anything."""
        from .report import rendered

        page = html.escape(rendered(self.trace))
        style = "width: 100%; height: 640px; border: 1px solid #ccc"
        frame = f'<iframe sandbox="allow-scripts" title="ringbuf report" style="{style}" srcdoc="{page}"></iframe>'
        return f"{frame}<details><summary>As a table</summary>{self.summary._repr_html_()}</details>"


class _Options(argparse.ArgumentParser):
    """Raises, where a command would end the program."""

    def error(self, message: str):
        raise ValueError(f"%%ringbuf: {message}")


def _options() -> argparse.ArgumentParser:
    parser = _Options(prog="%%ringbuf", add_help=False)
    parser.add_argument("-o", "--output", metavar="DIR")
    parser.add_argument("--include", metavar="MODULE", action="append", default=[])
    parser.add_argument("--exclude", metavar="MODULE", action="append", default=[])
    return parser


def register(shell) -> None:
    """Give an IPython shell the magic."""

    def ringbuf(line: str, cell: str) -> Cell:
        """Record the calls of this cell: %%ringbuf [-o DIR] [--include MODULE] [--exclude MODULE]"""
        return _recorded(shell, _options().parse_args(shlex.split(line)), cell)

    shell.register_magic_function(ringbuf, "cell", "ringbuf")


def _recorded(shell, options, cell: str) -> Cell:
    from .record.functions import Functions
    from .record.tracer import Tracer
    from .trace.trace import open_trace

    folder = None if options.output else tempfile.TemporaryDirectory(prefix="ringbuf-")
    directory = options.output or f"{folder.name}/trace"
    tracer = Tracer("cell", mode="discard", subbuf_size=1 << 20, n_subbufs=8, keep=False)
    try:
        with tracer.record(directory), Functions(tracer, options.include, (*options.exclude, *_NOTEBOOK)):
            shell.run_cell(cell)
    finally:
        tracer.channel.close()
    trace = open_trace(directory)
    if not len(trace):
        raise RingbufError("%%ringbuf: no function was called that is recorded: see --include")
    return Cell(trace, folder)
