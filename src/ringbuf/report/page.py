"""The file: one page with its style, its script and its data, which fetches nothing."""

from __future__ import annotations

import base64
import hashlib
import html
from importlib import resources

__all__ = ["SCRIPTS", "assembled"]

#: In the order in which they stand in the page; each uses those before it, and calls those after it once all are there.
SCRIPTS = (
    "data.js", "units.js", "colors.js", "view.js", "layout.js", "draw.js", "select.js", "details.js", "tables.js",
    "flame.js", "histogram.js", "search.js", "input.js", "main.js",
)  # fmt: skip


def assembled(collected) -> str:
    """The page of what `collect.collected` found: ASCII alone."""
    script = '"use strict";\n(() => {\n' + "\n".join(_file(name) for name in SCRIPTS) + "})();\n"
    style = _file("style.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "POLICY": f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
        "STYLE": style,
        "SCRIPT": script,
        "DATA": base64.b64encode(collected.data).decode(),
        "WORDS": html.escape(collected.words).encode("ascii", "xmlcharrefreplace").decode(),
    }
    page = _file("page.html")
    found = []
    for part in page.split("@@"):  # every second one is a name
        found.append(parts[part] if len(found) % 2 else part)
    return "".join(found)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath("page", name).read_text("ascii")
