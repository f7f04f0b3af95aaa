"""Chromium without a window, driven by Playwright: for what is shown in browsers."""

import contextlib
import functools
import http.server
import threading

import needs

SIZE = {"width": 1280, "height": 800}


@contextlib.contextmanager
def chromium():
    """A browser: one at a time, for Playwright runs an event loop in this thread meanwhile.

    It is Debian's; as root it needs to be told that it is in no sandbox.
    """
    playwright = needs.module("playwright.sync_api")
    path = needs.command("chromium")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        try:
            yield browser
        finally:
            browser.close()


def page_of(browser, **options):
    """An empty page, and what goes wrong in it: messages of errors, and addresses that it asked for elsewhere."""
    page = browser.new_page(viewport=SIZE, **options)
    wrong = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("request", lambda one: None if one.url.startswith(("file:", "blob:", "data:")) else wrong.append(one.url))
    return page, wrong


@contextlib.contextmanager
def served(folder):
    """The address of a folder on this machine."""
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass
