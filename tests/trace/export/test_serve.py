"""serve.py and `ringbuf ui`: a trace gets into a page by Perfetto's protocol of messages, and to nobody else."""

import contextlib
import json
import subprocess
import sys
import threading
import urllib.error
import urllib.request

import browser
import pytest
import trace_processor
from timelines import TICK, written

from ringbuf.trace.export.serve import Server

#: As https://perfetto.dev/docs/visualization/deep-linking-to-perfetto-ui has it; it is slow to begin.
STAND_IN = """<!doctype html><title>stand-in</title><p id="said">waiting</p>
<script>
setTimeout(() => addEventListener("message", (event) => {
  if (event.data === "PING") event.source.postMessage("PONG", event.origin);
  else if (event.data.perfetto) {
    const { buffer, title, localOnly } = event.data.perfetto;
    document.getElementById("said").textContent = JSON.stringify([title, buffer.byteLength, localOnly]);
  }
}), 300);
</script>"""


@contextlib.contextmanager
def serving(path, title, ui):
    with open(path, "rb") as file, Server(file, title, ui) as server:
        thread = threading.Thread(target=server.run, args=(4.0,))
        thread.start()
        yield server
        thread.join()


@pytest.fixture
def exported(tmp_path):
    with written(tmp_path, (1, "tick", TICK), (2, "web", [1, 0]), (9, "span_end", [1, ""])) as trace:
        trace.export(tmp_path / "x.pftrace")
    return tmp_path / "x.pftrace"


def test_only_who_knows_the_address_gets_the_trace(exported):
    with serving(exported, "t", "https://ui.perfetto.dev") as server:
        with urllib.request.urlopen(f"{server.url}trace") as answer:
            assert answer.read() == exported.read_bytes()
        root = server.url.rsplit("/", 2)[0]
        for url, headers in ((f"{root}/", {}), (f"{root}/trace", {}), (server.url, {"Host": "evil.example"})):
            with pytest.raises(urllib.error.HTTPError) as error:
                urllib.request.urlopen(urllib.request.Request(url, headers=headers))
            assert error.value.code in (403, 404)


@pytest.mark.parametrize("ui", ["", "ui.perfetto.dev", "file:///etc/passwd", "javascript:alert(1)"])
def test_what_is_no_address_of_a_page_is_refused(exported, ui):
    with open(exported, "rb") as file, pytest.raises(ValueError, match="no address of a page"):
        Server(file, "t", ui)


@pytest.mark.slow
def test_a_page_that_speaks_the_protocol_gets_the_trace(exported, tmp_path):
    (tmp_path / "ui").mkdir()
    (tmp_path / "ui" / "index.html").write_text(STAND_IN)
    title = 'a "title" </script><script>document.title = "owned"</script>\u2028'
    with browser.chromium() as chromium, browser.served(tmp_path / "ui") as ui, serving(exported, title, ui) as server:
        context = chromium.new_context()
        page = context.new_page()
        with context.expect_page() as opened:
            page.goto(server.url)
        other = opened.value
        other.wait_for_function("document.getElementById('said').textContent != 'waiting'")
        assert json.loads(other.inner_text("#said")) == [title, exported.stat().st_size, True]
        page.wait_for_function("document.getElementById('said').textContent.includes('other page')")
        assert "owned" not in (page.title(), other.title()) and page.inner_text("h1").startswith('a "title" </script>')


@pytest.mark.slow
def test_the_command_shows_the_trace_in_a_real_perfetto(exported, tmp_path):
    with browser.chromium() as chromium, browser.served(trace_processor.ui_folder().parent) as ui:
        command = [sys.executable, "-m", "ringbuf", "ui", str(tmp_path / "trace"), "--no-browser", "--json"]
        with subprocess.Popen([*command, "--ui", ui, "--timeout", "20"], stdout=subprocess.PIPE, text=True) as process:
            try:
                url = json.loads(process.stdout.readline())["url"]
                context = chromium.new_context()
                page = context.new_page()
                with context.expect_page() as opened:
                    page.goto(url)
                other = opened.value
                other.wait_for_function("document.title.includes('trace')", timeout=60_000)
                page.wait_for_function("document.getElementById('said').textContent.includes('other page')")
            finally:
                process.terminate()
