"""Real greenlets and tasks in the page: each has a line of its own, below its thread."""

import subprocess
import sys

import browser
import needs
import pytest

from ringbuf.trace.trace import open_trace

pytestmark = pytest.mark.slow
PROGRAM = """
import asyncio
import gevent

def step():
    return sum(range(1000))

def work():
    for _ in range(3):
        step()
        gevent.sleep(0)

async def fetch():
    for _ in range(3):
        step()
        await asyncio.sleep(0)

async def main():
    await asyncio.gather(*(asyncio.create_task(fetch(), name=f"fetch {n}") for n in range(3)))

gevent.joinall([gevent.spawn(work) for _ in range(3)])
asyncio.run(main())
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    needs.package("gevent")
    folder = tmp_path_factory.mktemp("strands")
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "ringbuf", "record", "--functions", "--include", "__main__", "-o", "trace", "--"]
    subprocess.run([*command, sys.executable, "program.py"], cwd=folder, check=True, timeout=120)
    with open_trace(folder / "trace") as trace:
        trace.report(folder / "report.html")
    with browser.chromium() as chromium:
        page, wrong = browser.page_of(chromium)
        page.goto((folder / "report.html").as_uri())
        page.wait_for_selector("html[data-ready]", timeout=60_000)
        yield page
        assert wrong == []


def labels(page):
    return page.locator("#gutter .inner.task").all_inner_texts()


def test_each_greenlet_and_each_task_has_a_line_with_its_name(page):
    found = [one for one in labels(page) if one != "Hub"]
    assert found[:3] == ["Greenlet", "Greenlet #2", "Greenlet #3"]
    assert [one for one in found if one.startswith("fetch")] == ["fetch 0", "fetch 1", "fetch 2"]


def test_what_a_greenlet_did_in_turns_is_on_its_line_in_as_many_pieces(page):
    pieces = page.evaluate(
        """() => { const { col, head } = ringbuf, found = {};
        for (let i = 0; i < col.begin.length; i++) if (head.names[col.name[i]] === "__main__.step") {
          const task = head.texts[col.task[i]]; found[task] = (found[task] || 0) + 1; }
        return found; }"""
    )
    assert {pieces[name] for name in ("Greenlet", "Greenlet #2", "Greenlet #3", "fetch 0", "fetch 1", "fetch 2")} == {3}


def test_a_thread_s_lines_are_folded_by_its_button(page):
    button = page.locator("#gutter button.thread").first
    button.click()
    assert labels(page) == []
    page.locator("#gutter button.thread").first.press("Enter")
    assert len(labels(page)) >= 6
