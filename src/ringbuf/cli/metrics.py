"""Print what channels have counted: counters, gauges and histograms, as Prometheus reads them.

With --serve, whoever asks gets them over HTTP, as they are then: no process that counts has to answer.
"""

from __future__ import annotations

import json
import socket
import sys
from argparse import ArgumentTypeError
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, HTTPServer

from ..metrics.apps import page
from ..metrics.exposition import exposition
from ..metrics.reading import read
from ..texts import printable_lines
from ._numbers import target

__all__ = ["configure", "run"]


def configure(parser) -> None:
    parser.add_argument("target", metavar="TARGET", nargs="+", help="a path, or a pid")
    parser.add_argument("--openmetrics", action="store_true", help="OpenMetrics instead of Prometheus's own format")
    parser.add_argument(
        "--serve", metavar="[HOST:]PORT", type=address, help="over HTTP, by default on this machine alone"
    )


def run(args) -> int:
    targets = [target(one) for one in args.target]
    if args.serve:
        return _serve(targets, *args.serve)
    channels = [(str(name), read(one)) for name, one in zip(args.target, targets, strict=True)]
    if args.json:
        print(json.dumps({name: [asdict(metric) for metric in metrics] for name, metrics in channels}))
    else:
        text = exposition(channels, openmetrics=args.openmetrics)
        print(printable_lines(text) if sys.stdout.isatty() else text, end="")
    return 0


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise ArgumentTypeError(f"{text!r} is no port, and no HOST:PORT")
    return host.strip("[]") or "127.0.0.1", int(port)


class _Handler(BaseHTTPRequestHandler):
    """Not wsgiref's, which takes the exception by which a signal ends us for an error of the page."""

    server: _Server

    def do_GET(self) -> None:
        kind, body = page(self.server.targets, self.headers.get("Accept", ""))
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, format, *args) -> None:
        pass


class _Server(HTTPServer):
    def __init__(self, address: tuple[str, int], targets) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.targets = targets
        super().__init__(address, _Handler)


def _serve(targets, host: str, port: int) -> int:
    read(targets[0])  # an error before anybody asks
    with _Server((host, port), targets) as server:
        print(f"ringbuf metrics: http://{host}:{server.server_port}/metrics", file=sys.stderr, flush=True)
        server.serve_forever()
    return 0
