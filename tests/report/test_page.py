"""The page, in a browser: what is drawn, what is said, what can be done with keys; and that it fetches nothing."""

import json
import random
import runpy
import subprocess
import sys
import threading
from pathlib import Path

import browser
import needs
import pytest
import test_foreign
from rings import eventually
from timelines import OF_IMAGES, ORIGIN, SCHEMAS, TICK, written

import ringbuf
from ringbuf.trace.trace import open_trace

pytestmark = pytest.mark.slow
EXAMPLE = Path(__file__).parents[2] / "examples" / "web_service.py"
HOSTILE = [
    "</script><script>document.title='owned'</script>", "<img src=x onerror=\"document.title='owned'\">", "@@SCRIPT@@",
    "\u2028\u2029\u202e", "a\x1b[2J", "javascript:alert(1)", "'\"><b>x", "__proto__", "constructor", "%s{0}\\u0041",
]  # fmt: skip


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as found:
        yield found


@pytest.fixture
def show(chromium, tmp_path):
    """Write the page of a trace, open it, and see that nothing goes wrong."""
    pages = []

    def show(trace, wait=True, **options):
        path = tmp_path / "report.html"
        trace.report(path, **options.pop("wanted", {}))
        page, wrong = browser.page_of(chromium, **options)
        pages.append((page, wrong))
        page.goto(path.as_uri())
        if wait:
            page.wait_for_selector("html[data-ready]", timeout=100_000)
        page.size = path.stat().st_size
        return page

    yield show
    for page, wrong in pages:
        page.close()
        assert wrong == []


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The example's trace, and what it says of itself."""
    folder = tmp_path_factory.mktemp("service")
    example = runpy.run_path(str(EXAMPLE))
    return folder / "trace", example["run"](str(folder / "trace"))


def colour_at(page, x, y):
    return page.evaluate(
        """([x, y]) => { const canvas = document.getElementById("canvas");
        return [...canvas.getContext("2d").getImageData(x, y, 1, 1).data].slice(0, 3); }""",
        [x, y],
    )


def background(page):
    return colour_at(page, 3, page.evaluate("ringbuf.view.height - 3"))


def until(page, expression, argument=None):
    """Wait for it; Playwright's own way needs a permission that the page does not give."""
    for _ in range(4000):
        if page.evaluate(expression, argument):
            return
        page.wait_for_timeout(25)
    pytest.fail(f"{expression} stays false")


def place_of(page, slice_number):
    return page.evaluate("(i) => ringbuf.placeOf(i)", slice_number)


def x_of(page, time):
    """Where a time is on the canvas."""
    return page.evaluate(
        "(time) => (time - ringbuf.view.begin) / (ringbuf.view.end - ringbuf.view.begin) * ringbuf.view.width", time
    )


def slices(page, name):
    return page.evaluate(
        "(name) => [...ringbuf.col.name].flatMap((n, i) => ringbuf.head.names[n] === name ? [i] : [])", name
    )


# ---- a service of which one worker was killed: who never saw the tool finds out ----


def test_the_first_lines_say_who_died_over_what_what_was_lost_and_what_was_slow(show, service):
    directory, found = service
    with open_trace(directory) as trace:
        page = show(trace)
    lines = page.locator("#findingsList li").all_inner_texts()
    died, lost, slow = (next(line for line in lines if line.startswith(word)) for word in ("Died", "Lost", "Slow"))
    assert str(found["killed"]) in died and "request (path=/pay" in died and "charge card (order=4711)" in died
    assert str(found["lost"]) in lost and "mostly row" in lost
    assert any("path=/slow" in line and "table=articles index=False" in line for line in lines), lines
    assert "took" in slow
    assert any("LookupError: no such customer" in line for line in lines)


def test_the_finding_leads_to_what_the_dead_one_did(show, service):
    directory, found = service
    with open_trace(directory) as trace:
        page = show(trace)
    page.locator("#findingsList .death button").click()
    page.wait_for_timeout(100)
    (charge,) = slices(page, "charge card")
    place, box = place_of(page, charge), page.locator("#canvas").bounding_box()
    assert page.locator("#timeline").bounding_box()["height"] == pytest.approx(58 + box["height"], abs=2)
    assert 0 < place["y"] < box["height"] - place["height"]  # it is seen
    details = page.locator("#details")
    assert details.locator("h2").first.inner_text() == "charge card"
    text = details.inner_text()
    assert "its process died at +" in text and "4711" in text and f" {found['killed']}" in text
    details.get_by_role("button", name="request").click()
    assert "/pay" in details.inner_text()


def test_the_death_is_drawn_where_it_happened_and_the_end_that_is_none_is_torn(show, service):
    with open_trace(service[0]) as trace:
        page = show(trace)
    (charge,) = slices(page, "charge card")
    page.evaluate(
        "([i]) => { const c = ringbuf.col; ringbuf.look(c.begin[i] - 2e8, c.end[i] + 2e8); ringbuf.drawNow(); }",
        [charge],
    )
    place = place_of(page, charge)
    red, green, blue = colour_at(page, int(place["end"]) - 4, int(place["y"]) + 2)
    assert red > green + 25 and red > blue + 25, (red, green, blue)
    assert page.locator("#gutter .process.dead").count() == 1


def test_a_process_that_ended_with_nothing_open_has_its_end_drawn_but_is_no_death(show, tmp_path):
    trace = written(
        tmp_path, (0, "tick", TICK), (9000, "web", [1, 0], (7, 7)), (12_000, "span_end", [1, ""], (7, 7)),
        (40_000, "tick", TICK), env={"ended_1": f"7 7 0 {ORIGIN + 20_000} 0 x"},
    )  # fmt: skip
    page = show(trace)
    (line,) = page.locator("#findingsList .end").all_inner_texts()
    assert "process 7 at +20.0" in line and "nothing was open" in line
    assert page.locator("#gutter .process.ended").count() == 1 and page.locator("#gutter .dead").count() == 0
    band = page.evaluate("ringbuf.bands().find((band) => band.kind === 'process' && band.process.pid === 7)")
    x = round(x_of(page, 20_000))
    assert colour_at(page, x, int(band["y"]) + 2) != colour_at(page, x + 300, int(band["y"]) + 2)
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + band["y"] + 8)
    assert "ended, with nothing open" in page.locator("#tip").inner_text()


def test_losses_are_drawn_in_their_time_and_say_how_many(show, service):
    directory, found = service
    with open_trace(directory) as trace:
        page = show(trace)
        assert trace.lost.events == found["lost"]
    band = page.evaluate("ringbuf.bands().find((band) => band.kind === 'lost')")
    begin, end, *_ = max(page.evaluate("ringbuf.head.lost.places"), key=lambda one: one[3])
    page.evaluate("([begin, end]) => { ringbuf.look(begin - 1e7, end + 1e7); ringbuf.drawNow(); }", [begin, end])
    middle = x_of(page, (begin + end) / 2)
    colours = {tuple(colour_at(page, int(middle) + i, int(band["y"]) + 10)) for i in range(-40, 40)}
    assert any(red > 150 and green < 90 for red, green, _ in colours)
    box = page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + middle + 60, box["y"] + band["y"] + 10)
    assert "lost" in page.locator("#tip").inner_text()


def test_the_table_is_that_of_the_summary(show, service):
    with open_trace(service[0]) as trace:
        page = show(trace)
        expected = {row.name: row.count for row in trace.summary()}
    rows = page.locator("#summary tbody tr").all()
    shown = {row.locator("td").last.inner_text(): int(row.locator("td").first.inner_text()) for row in rows}
    assert shown == expected


# ---- what is drawn ----


def nested(tmp_path):
    return written(
        tmp_path,
        (0, "db", [1, 0, "outer"]), (1000, "db", [2, 1, "inner"]), (5000, "span_end", [2, "KeyError: 'x'"]),
        (6000, "tick", TICK), (9000, "span_end", [1, ""]), (10_000, "web", [3, 0]), (12_000, "web", [4, 0]),
        (14_000, "span_end", [3, ""]), (16_000, "span_end", [4, ""]),
    )  # fmt: skip


def test_slices_are_where_they_were_and_overlapping_ones_both(show, tmp_path):
    page = show(nested(tmp_path))
    for name, count in (("db", 2), ("web", 2)):
        found = slices(page, name)
        assert len(found) == count
        for one in found:
            place = place_of(page, one)
            inside = colour_at(page, int(place["x"]) + 5, int(place["y"]) + 1)
            assert inside != background(page)
            assert colour_at(page, int(place["x"]) - 6, int(place["y"]) + 1) != inside or name == "db"
    first, second = (place_of(page, one) for one in slices(page, "web"))
    assert first["y"] != second["y"] and first["end"] > second["x"]
    outer, inner = (place_of(page, one) for one in slices(page, "db"))
    assert outer["y"] < inner["y"] and (inner["end"] - inner["x"]) / (outer["end"] - outer["x"]) == pytest.approx(
        4 / 9, 0.01
    )


def test_what_follows_from_another_process_or_thread_has_an_arrow(show, tmp_path):
    tracer = ringbuf.Tracer("links", mode="discard")
    links = []
    with tracer.record(tmp_path / "t"):
        with tracer.span("ask") as span:
            links.append(span.link())

        def answer():
            with tracer.span("answer"):
                tracer.follow(links[0])

        thread = threading.Thread(target=answer)
        thread.start()
        thread.join()
    tracer.channel.close()
    page = show(open_trace(tmp_path / "t"))
    (ask,), (answer,) = slices(page, "ask"), slices(page, "answer")
    assert page.evaluate("ringbuf.head.links") == [[ask, answer]]
    place = place_of(page, answer)
    assert colour_at(page, int(place["x"]) - 4, int(place["y"] + place["height"] / 2)) != background(page)
    page.evaluate("(i) => ringbuf.choose(i)", answer)
    page.locator("#details").get_by_role("button", name="ask").click()
    assert page.locator("#details h2").first.inner_text() == "ask"


def test_an_error_is_seen_however_narrow(show, tmp_path):
    page = show(nested(tmp_path))
    _, inner = slices(page, "db")
    place = place_of(page, inner)
    red, green, _ = colour_at(page, round(place["end"]), int(place["y"]) + 5)
    assert red > green + 60


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_light_or_dark_as_the_reader_likes(show, tmp_path, scheme):
    page = show(nested(tmp_path), color_scheme=scheme)
    assert (sum(background(page)) > 600) == (scheme == "light")
    page.get_by_role("button", name="Light or dark").click()
    eventually(lambda: (sum(background(page)) > 600) != (scheme == "light"))


@pytest.mark.parametrize("width", [360, 640])
def test_in_a_narrow_window_nothing_is_out_of_reach(show, tmp_path, width):
    page = show(nested(tmp_path))
    page.set_viewport_size({"width": width, "height": 700})
    until(page, "(width) => ringbuf.view.width < width - 100", width)
    for name in ("Whole", "Zoom in", "Light or dark", "?"):
        box = page.get_by_role("button", name=name, exact=True).bounding_box()
        assert 0 <= box["x"] and box["x"] + box["width"] <= width
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#canvas").bounding_box()["width"] >= width - 130
    page.get_by_role("tab", name="Trace").click()
    assert page.locator("#about").is_visible()


def test_it_prints_in_light_colours_with_its_tables(show, tmp_path):
    page = show(nested(tmp_path), color_scheme="dark")
    page.emulate_media(media="print")
    until(page, "document.documentElement.dataset.theme === 'light'")
    assert sum(background(page)) > 600
    assert not page.locator("#details").is_visible()  # nothing is chosen
    assert page.locator("#summary").is_visible() and page.locator("#about").is_visible()
    assert not page.locator(".tools").is_visible()
    assert len(page.pdf()) > 10_000


# ---- what can be done ----


def test_all_of_it_works_by_keys(show, tmp_path):
    page = show(nested(tmp_path))
    page.locator("#canvas").focus()
    begin = page.evaluate("ringbuf.view.end - ringbuf.view.begin")
    page.keyboard.press("+")
    assert page.evaluate("ringbuf.view.end - ringbuf.view.begin") < begin
    before = page.evaluate("ringbuf.view.begin")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("ringbuf.view.begin") > before
    page.keyboard.press("0")
    page.keyboard.press("n")
    assert page.locator("#live").inner_text().startswith("db, 9.00")
    page.keyboard.press("i")
    assert "KeyError: 'x'" in page.locator("#details").inner_text()
    page.keyboard.press("o")
    assert "KeyError" not in page.locator("#details").inner_text()
    page.keyboard.press("s")
    until(page, "document.getElementById('scope').textContent.startsWith('of 9.00')")
    page.keyboard.press("/")
    page.keyboard.type("inner")
    page.keyboard.press("Enter")
    assert "inner" in page.locator("#details").inner_text()
    page.keyboard.press("Escape")
    page.keyboard.press("?")
    assert page.get_by_role("dialog", name="Keys and signs").is_visible()


def test_wheel_and_drag_zoom_and_pan(show, tmp_path):
    page = show(nested(tmp_path))
    box = page.locator("#canvas").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + 200
    page.mouse.move(*middle)
    size = page.evaluate("ringbuf.view.end - ringbuf.view.begin")
    page.keyboard.down("Control")
    page.mouse.wheel(0, -300)
    page.keyboard.up("Control")
    until(page, "(size) => ringbuf.view.end - ringbuf.view.begin < 0.8 * size", size)
    begin = page.evaluate("ringbuf.view.begin")
    page.mouse.down()
    page.mouse.move(middle[0] - 100, middle[1], steps=4)
    page.mouse.up()
    assert page.evaluate("ringbuf.view.begin") > begin


def test_a_range_has_its_own_table_and_flame_graph(show, tmp_path):
    page = show(nested(tmp_path))
    box = page.locator("#canvas").bounding_box()
    x = x_of(page, 9500)
    page.mouse.move(box["x"] + x, box["y"] + 10)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + 10, steps=4)
    page.mouse.up()
    until(page, "document.querySelectorAll('#summary tbody tr').length === 1")
    assert page.locator("#summary tbody tr").inner_text().split()[-1] == "web"
    page.get_by_role("tab", name="Flame graph").click()
    assert page.locator("#flameGraph button").evaluate_all("(all) => all.map((one) => one.ariaLabel)") == [
        "web, 8.00 \u00b5s, 100.0 %"
    ]
    page.get_by_role("button", name="Whole trace again").click()
    until(page, "document.querySelectorAll('#flameGraph button').length === 3")


def test_hovering_tells_the_fields(show, tmp_path):
    page = show(nested(tmp_path))
    place, box = place_of(page, slices(page, "db")[1]), page.locator("#canvas").bounding_box()
    page.mouse.move(box["x"] + place["x"] + 20, box["y"] + place["y"] + 6)
    tip = page.get_by_role("tooltip")
    assert "table=inner" in tip.inner_text() and "KeyError: 'x'" in tip.inner_text()


def test_the_histogram_of_a_name(show, tmp_path):
    page = show(nested(tmp_path))
    page.get_by_role("tab", name="Histogram").click()
    page.get_by_role("combobox", name="Name", exact=True).select_option(label="web")
    assert "2 from" in page.locator("#bars").get_attribute("aria-label")


def test_who_cannot_see_it_is_told(show, tmp_path):
    page = show(nested(tmp_path))
    tree = page.locator("body").aria_snapshot()
    for said in (
        'application "Time line of spans',
        'tab "Summary" [selected]',
        'columnheader "count"',
        "searchbox",
        'list "Processes, threads',
    ):
        assert said in tree or said.replace("searchbox", "combobox") in tree, tree
    unnamed = page.evaluate(
        "[...document.querySelectorAll('button')].filter((b) => !b.textContent.trim() && !b.ariaLabel).length"
    )
    assert unnamed == 0


# ---- what a trace says is text ----


def test_no_text_of_a_trace_becomes_markup(show, tmp_path):
    tracer = ringbuf.Tracer("hostile", mode="discard")
    with tracer.record(tmp_path / HOSTILE[0].replace("/", "")):
        for text in HOSTILE:
            tracer.event("e", text="str")(text)
            try:
                with tracer.span(text.translate(dict.fromkeys(range(32)))[:40] or "x", value=text):
                    raise ValueError(text)
            except ValueError:
                pass
    tracer.channel.close()
    page = show(open_trace(tmp_path / HOSTILE[0].replace("/", "")))
    source = Path(page.url.removeprefix("file://")).read_text("ascii")
    assert source.count("<script") == 2 and "<img" not in source and "<b>" not in source
    for tab in ("Summary", "Flame graph", "Histogram", "Trace", "Details"):
        page.get_by_role("tab", name=tab).click()
    page.evaluate("for (let i = 0; i < ringbuf.col.begin.length; i++) ringbuf.choose(i)")
    page.locator("#search").fill("owned")
    page.wait_for_timeout(200)
    assert "owned" not in page.title().replace("document.title='owned'", "") and page.locator("img").count() == 0
    assert page.locator("script").count() == 1 and page.locator("b").count() == 0


# ---- what is missing ----


def test_an_empty_trace_gives_a_page_that_says_so(show, tmp_path):
    tracer = ringbuf.Tracer("empty", mode="discard")
    with tracer.record(tmp_path / "t"):
        pass
    tracer.channel.close()
    page = show(open_trace(tmp_path / "t"))
    assert "The trace has no packet" in page.locator("#findings").inner_text()


def test_a_damaged_trace_gives_a_page_that_says_where(show, tmp_path):
    _recorded(tmp_path / "t")
    file = max((tmp_path / "t").iterdir(), key=lambda one: one.stat().st_size)
    data = bytearray(file.read_bytes())
    for i in range(len(data) // 2, len(data) // 2 + 300):
        data[i] = 0xFF
    file.write_bytes(data)
    page = show(open_trace(tmp_path / "t", errors="skip"))
    assert "Damaged" in page.locator("#findings").inner_text()


def _recorded(directory):
    tracer = ringbuf.Tracer("t", mode="discard", subbuf_size=4096)
    with tracer.record(directory):
        event = tracer.event("e", n="u64", text="str")
        for n in range(2000):
            event(n, "text")
    tracer.channel.close()


ODD = {
    "no contexts": ([(1, "tick", TICK), (2, "db", [1, 0, "x"]), (3, "function_begin", [1])], {"contexts": ""}),
    "only ends": ([(1, "span_end", [1, "x"]), (2, "function_end", [7])], {}),
    "one instant": ([(1, "tick", TICK)], {}),
    "all at one time": ([(5, "db", [i + 1, i, "x"]) for i in range(300)], {}),
    "very deep": ([(i, "function_begin", [1]) for i in range(3000)], {}),
    "losses": ([(1, "tick", TICK), (9, "tick", TICK)], {"discarded": (5, 9)}),
    "tasks": (
        [(2, "strand", [9, "task", "t"]), (3, "strand_switch", [9, 1]), (4, "function_begin", [1]),
         (5, "process_image", [2, 1, 1])],
        {"schemas": OF_IMAGES},
    ),
    "a death of which nothing else is known": ([(1, "tick", TICK)], {"env": {"ended_1": "9 9 0 0 2 x"}}),
}  # fmt: skip


@pytest.mark.parametrize("what", ODD)
def test_odd_traces_give_pages(show, tmp_path, what):
    records, options = ODD[what]
    page = show(written(tmp_path, *records, **options))
    for key in ("n", "f", "i", "o", "s", "0", "+", "-"):
        page.locator("#canvas").press(key)
    for tab in ("Details", "Summary", "Flame graph", "Histogram", "Trace"):
        page.get_by_role("tab", name=tab).click()
    for button in page.locator("#findingsList button").all():
        button.click()
    assert page.evaluate("ringbuf.frames()") > 3


def test_a_trace_without_times_gives_a_page(show, tmp_path):
    directory = test_foreign.write(tmp_path / "t", f"{test_foreign.U8} a;", [b"\1", b"\2"], map="", time="when")
    text = (directory / "metadata").read_text().replace("timestamp_begin", "first").replace("timestamp_end", "last")
    (directory / "metadata").write_text(text)
    page = show(open_trace(directory))
    assert "2 events" in page.locator("#facts").inner_text()


def test_without_a_script_it_says_what_the_trace_is(chromium, tmp_path):
    nested(tmp_path).report(tmp_path / "r.html")
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "r.html").as_uri())
    assert "JavaScript" in page.locator("noscript").inner_text() and "records" in page.locator("noscript").inner_text()
    context.close()


# ---- much ----


def many(directory, n):
    tracer = ringbuf.Tracer("many", mode="discard", subbuf_size=1 << 20, n_subbufs=8, blocking_timeout=60.0)
    types = [tracer.span_type(f"kind {i}", n="u32") for i in range(8)]
    picked = random.Random(1)

    def work():
        for i in range(n // 8):
            with types[i % 3](i), types[3 + picked.randrange(5)](i):
                pass

    with tracer.record(directory):
        threads = [threading.Thread(target=work) for _ in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    tracer.channel.close()
    return open_trace(directory)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return many(tmp_path_factory.mktemp("large") / "t", 300_000)


def test_more_than_has_room_is_counted_and_the_page_stays_small(show, large):
    page = show(large)
    assert page.size < 8 << 20
    kept, cells = page.evaluate("[ringbuf.col.begin.length, [...ringbuf.col.cellN].reduce((sum, n) => sum + n, 0)]")
    assert kept == 120_000 and kept + cells == page.evaluate("ringbuf.head.slices") == len(large.spans().to_numpy())
    longest = large.spans().to_numpy()["duration"].max()
    assert page.evaluate("[...ringbuf.col.duration].reduce((most, one) => Math.max(most, one), 0)") == longest


def test_panning_over_100_000_slices_takes_less_than_a_frame(show, large):
    """In processor time of the page's thread, which other programs on the machine do not lengthen much."""
    page = show(large)
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def used():
        metrics = session.send("Performance.getMetrics")["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    page.evaluate("ringbuf.look(0, ringbuf.head.length)")
    page.evaluate("for (let i = 0; i < 20; i++) { ringbuf.pan(1); ringbuf.drawNow(); }")  # compiled
    before = used()
    page.evaluate("for (let i = 0; i < 60; i++) { ringbuf.pan(i % 2 ? 30 : -30); ringbuf.drawNow(); }")
    each = (used() - before) / 60
    assert page.evaluate("ringbuf.col.begin.length") >= 100_000
    assert each < 1 / 60, f"{1000 * each:.1f} ms of processor for each picture"


def test_the_benchmark_of_the_page_measures_all_that_it_promises():
    needs.package("playwright")
    script = Path(__file__).parents[2] / "bench" / "page.py"
    command = [sys.executable, script, "--records", "20000", "--rounds", "1", "--seconds", "0.2", "--json"]
    browser_path = ["--browser", needs.command("chromium")]
    done = subprocess.run([*command, *browser_path], capture_output=True, text=True, check=True, timeout=240)
    found = json.loads(done.stdout)
    assert found["slices_seen"] == 10_000
    assert min(found[one] for one in ("write_cpu_s", "first_picture_s", "pan_cpu_ms", "frames_per_s")) > 0


# ---- the command ----


def test_the_command_writes_the_page_of_a_part(tmp_path):
    nested(tmp_path)
    command = [
        sys.executable,
        "-m",
        "ringbuf",
        "report",
        str(tmp_path / "trace"),
        "-o",
        str(tmp_path / "r.html"),
        "--json",
    ]
    done = subprocess.run([*command, "--event", "db"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"file": str(tmp_path / "r.html"), "bytes": (tmp_path / "r.html").stat().st_size}
    done = subprocess.run(
        [*command[:-2], str(tmp_path / "trace" / "r.html")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "every file in the directory of a trace" in done.stderr


# ---- the kernel ----


def test_what_cpus_ran_and_system_calls_are_slices_and_other_threads_are_folded_away(show, tmp_path):
    schemas = SCHEMAS | {
        "sched_switch": "prev_comm:str,prev_pid:i32,next_comm:str,next_pid:i32",
        "sys_enter_read": "fd:u64",
        "sys_exit_read": "ret:i64",
    }
    ours, nobody, other = (100, 101, 0), (0, 0, 0), (0, 0, 7)
    trace = written(
        tmp_path, (0, "web", [1, 0], ours), (1000, "sched_switch", ["x", 0, "python", 101], nobody),
        (2000, "sys_enter_read", [5], (0, 0, 101)), (5000, "sys_exit_read", [9], (0, 0, 101)),
        (7000, "sched_switch", ["python", 101, "other", 7], nobody), (8000, "sys_enter_read", [5], other),
        (9000, "sys_exit_read", [9], other), (9500, "sched_switch", ["other", 7, "x", 0], nobody),
        (10_000, "span_end", [1, ""], ours), contexts="vpid:i32,vtid:i32,common_pid:i32", schemas=schemas,
    )  # fmt: skip
    page = show(trace)
    labels = page.locator("#gutter .process").all_inner_texts()
    assert [one.strip() for one in labels] == ["process 100", "CPUs", "Other threads"]
    (run,), (mine, theirs) = slices(page, "python 101"), slices(page, "syscall read")
    assert colour_at(page, int(place_of(page, run)["x"]) + 5, int(place_of(page, run)["y"]) + 1) != background(page)
    assert place_of(page, mine)["end"] - place_of(page, mine)["x"] == pytest.approx(
        place_of(page, run)["end"] / 2, rel=0.5
    )
    assert place_of(page, theirs) is None  # until it is looked for
    page.evaluate("(i) => ringbuf.choose(i)", theirs)
    assert place_of(page, theirs) is not None and "system call" in page.locator("#details").inner_text()
    page.get_by_role("tab", name="Flame graph").click()
    assert "python 101" not in page.locator("#flame").inner_text()
