"""The command line: ``ringbuf COMMAND``, or ``python -m ringbuf COMMAND``.

A command is a module of this package with `configure(parser)` and `run(args) -> int`, the exit
status; its documentation is its help, the first line that among others. What it raises as RingbufError or OSError
is printed as one line, with exit status 1. A name with an underscore is shared by several.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import signal
import sys

from .. import __version__
from ..errors import RingbufError
from ..texts import printable, printable_lines
from . import _signals

__all__ = ["COMMANDS", "main"]

COMMANDS = (
    "attach", "clean", "doctor", "export", "flame", "info", "list", "metrics", "record", "recover", "report",
    "snapshot", "stat", "stream", "summary", "top", "ui", "view",
)  # fmt: skip


def main(argv: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    args = _parser().parse_args(argv)
    _prepare_output()
    try:
        with _signals.ending():
            status = args.run(args)
            sys.stdout.flush()
        return status
    except BrokenPipeError:
        # Who reads our output has had enough, as `head` has. What is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except _signals.Ended as end:
        return 128 + end.number
    except (RingbufError, OSError, ValueError, ImportError) as error:
        print(printable(f"ringbuf {args.command}: {_one_line(error)}"), file=sys.stderr)
        return 1


def _prepare_output() -> None:
    """Names and texts need not be of the terminal's encoding, and there may be nobody to print to."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    elif isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return " ".join(str(error).split())


class _Parser(argparse.ArgumentParser):
    """Repeats arguments that it does not take, which may be names from anywhere."""

    def _print_message(self, message, file=None) -> None:
        super()._print_message(printable_lines(message or ""), file)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="ringbuf", description="Records and inspects ring buffers in shared memory.")
    parser.add_argument("--version", action="version", version=f"ringbuf {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f".{name}", __name__)
        text = module.__doc__.strip().replace("``", "")
        command = commands.add_parser(name, help=text.splitlines()[0], description=text)
        command.add_argument("--json", action="store_true", help="print the result as JSON")
        module.configure(command)
        command.set_defaults(run=module.run)
    return parser
