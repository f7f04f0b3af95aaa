"""A trace on this machine's own address, and a page that hands it to Perfetto's.

Perfetto's page takes a trace from the page that has opened it: that one posts "PING" until "PONG" comes, then
the bytes (https://perfetto.dev/docs/visualization/deep-linking-to-perfetto-ui). It opens the other page once somebody
clicks, where the browser does not let it do so by itself.
"""

from __future__ import annotations

import html
import http.server
import json
import secrets
import shutil
import time
import urllib.parse
from typing import BinaryIO

__all__ = ["Server"]

_PERIOD = 0.2  # seconds between two looks at the clock

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>{title} - ringbuf ui</title>
<style>body {{ font: 15px/1.5 system-ui, sans-serif; margin: 3em; color-scheme: light dark; }}</style>
<h1>{title}</h1>
<p id="said" role="status">Opening {ui} ...</p>
<p><button id="open">Open it</button> <a href="trace" download="trace.pftrace">the trace itself</a></p>
<script>
"use strict";
const about = {about};
const said = document.getElementById("said");
async function show() {{
  const other = window.open(about.ui);
  if (!other) {{
    said.textContent = "The browser wants a click before it opens another page.";
    return;
  }}
  const buffer = await (await fetch("trace")).arrayBuffer();
  const timer = setInterval(() => other.postMessage("PING", about.origin), 50);
  addEventListener("message", (event) => {{
    if (event.source !== other || event.data !== "PONG") return;
    clearInterval(timer);
    const perfetto = {{ buffer, title: about.title, fileName: "trace.pftrace", localOnly: true }};
    other.postMessage({{ perfetto }}, about.origin, [buffer]);
    said.textContent = "The trace is in the other page. This one may be closed.";
  }});
}}
document.getElementById("open").addEventListener("click", show);
show();
</script>
</html>
"""


class Server:
    """Serves one trace; a context manager.

    Parameters
    ----------
    file : binary file
        The trace, as Perfetto reads it.
    title : str
    ui : str
        The page that is to show it.
    port : int
        0: one that is free.

    Attributes
    ----------
    url : str
        What a browser is to open. It has a secret in it: other programs of this machine, and pages of others in the
        browser, cannot guess it.
    """

    def __init__(self, file: BinaryIO, title: str, ui: str = "https://ui.perfetto.dev", port: int = 0) -> None:
        parts = urllib.parse.urlsplit(ui)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise ValueError(f"{ui!r} is no address of a page: https://ui.perfetto.dev is one")
        about = {"title": title, "ui": ui, "origin": f"{parts.scheme}://{parts.netloc}"}
        # In a script, JSON may not have what ends the script.
        said = json.dumps(about).replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
        page = _PAGE.format(title=html.escape(title), ui=html.escape(ui), about=said).encode("utf-8", "replace")
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", port), _Handler)
        self._server.daemon_threads = True
        self._server.timeout = _PERIOD
        self._server.content = _Content(f"/{secrets.token_urlsafe(16)}/", page, file)
        self.url = f"http://127.0.0.1:{self._server.server_port}{self._server.content.prefix}"

    def run(self, timeout: float | None = None) -> None:
        """Serve, until an exception comes, or nobody has asked for `timeout` seconds."""
        content = self._server.content
        content.asked = time.monotonic()
        while timeout is None or time.monotonic() - content.asked < timeout:
            self._server.handle_request()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc) -> None:
        self._server.server_close()


class _Content:
    def __init__(self, prefix: str, page: bytes, file: BinaryIO) -> None:
        self.prefix, self.page, self.file = prefix, page, file
        self.asked = time.monotonic()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Gives the page and the trace to who knows the secret, and nothing to others."""

    def do_GET(self) -> None:
        content = self.server.content
        content.asked = time.monotonic()
        if self.headers.get("Host") != f"127.0.0.1:{self.server.server_port}":
            self.send_error(403)  # a name of somebody else's that leads here
        elif self.path == content.prefix:
            self._begin("text/html; charset=utf-8", len(content.page))
            self.wfile.write(content.page)
        elif self.path == f"{content.prefix}trace":
            with open(content.file.name, "rb") as file:
                self._begin("application/octet-stream", file.seek(0, 2))
                file.seek(0)
                shutil.copyfileobj(file, self.wfile)
        else:
            self.send_error(404)
        content.asked = time.monotonic()

    def _begin(self, kind: str, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()

    def log_message(self, format: str, *args) -> None:
        """Nothing is printed."""
