"""Show a trace in Perfetto's time line, in the browser: https://ui.perfetto.dev, or --ui another one.

The trace stays on this machine: it is served on 127.0.0.1 alone, under a name that nobody can guess, and the
browser hands it to the page by Perfetto's protocol of messages. The browser gets the page itself from the net.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import webbrowser

from . import _progress, _selection
from ._numbers import port, seconds
from ._output import say

__all__ = ["configure", "run"]


def configure(parser) -> None:
    _selection.configure(parser)
    _selection.configure_pairs(parser)
    parser.add_argument("--ui", metavar="URL", default="https://ui.perfetto.dev", help="the page (%(default)s)")
    parser.add_argument("--port", type=port, default=0, help="of this machine, on which the trace is served")
    parser.add_argument("--no-browser", action="store_true", help="only say the address that a browser is to open")
    parser.add_argument("--timeout", metavar="SECONDS", type=seconds, help="end when nobody has asked for so long")


def run(args) -> int:
    from ..trace.export.serve import Server

    with tempfile.TemporaryDirectory(prefix="ringbuf-") as folder, _selection.opened(args) as trace:
        path = os.path.join(folder, "trace.pftrace")
        more = {**_selection.wanted_threads(args), **_selection.wanted_limits(args)}
        with _progress.shown(trace, passes=2):
            trace.export(path, **_selection.wanted(args, trace), **more)
        _selection.report(args, trace)
        title = os.path.basename(os.path.abspath(args.directory))
        with open(path, "rb") as file, Server(file, title, args.ui, args.port) as server:
            say(json.dumps({"url": server.url}) if args.json else server.url)
            if not args.json:
                say("Ctrl-C ends it.")
            sys.stdout.flush()
            if not args.no_browser:
                webbrowser.open(server.url)
            server.run(args.timeout)
    return 0
