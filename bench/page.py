"""The page of a large trace: what writing it takes, when its first picture is there, and how it pans.

    python bench/page.py                            # 20 M records, 100,000 slices seen at once
    python bench/page.py --records 2000000 --rounds 1 --json

Needs Playwright and Debian's chromium. Writing is measured in CPU time; the browser both ways, by the clock, which
means something on a quiet machine alone, and in CPU time of the page's thread. With a build at full speed
(`make build`), or the figure for writing is none.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import tempfile
import threading
import time
from pathlib import Path

import ringbuf

LIMITS = {"write_cpu_s": 40, "first_picture_s": 1.0, "frames_per_s": 60, "pan_cpu_ms": 1000 / 60}

PAN = """
(seconds) => new Promise((done) => {
  const times = [], begin = performance.now();
  let back = false;
  const step = (now) => {
    times.push(now);
    if (now - begin > 1000 * seconds) return done(times);
    if (times.length % 60 === 0) back = !back;
    ringbuf.pan(back ? -4 : 4);
    requestAnimationFrame(step);
  };
  requestAnimationFrame(step);
})
"""
SEEN = """
() => { const { col, view } = ringbuf; let n = 0;
  for (let i = 0; i < col.begin.length; i++) if (col.begin[i] <= view.end && col.end[i] >= view.begin) n++;
  return n; }
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=20_000_000)
    parser.add_argument("--rounds", type=int, default=3, help="of opening and panning; medians are told")
    parser.add_argument("--seconds", type=float, default=5.0, help="of panning")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        record(os.path.join(folder, "trace"), args.records)
        page = Path(folder, "report.html")
        found = {"records": args.records, **write(os.path.join(folder, "trace"), page)}
        rounds = looked_at(page, args)
    found |= {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for name, value in found.items():
        limit = LIMITS.get(name)
        print(f"{name:<20}{value:>14.4g}" + (f"   (goal: {limit:.3g})" if limit else ""))


def record(directory: str, records: int) -> None:
    """Spans of eight names in four threads, each within another one: two records for each."""
    tracer = ringbuf.Tracer(
        "page", mode="discard", streams="global", subbuf_size=1 << 20, n_subbufs=16, blocking_timeout=60.0
    )
    types = [tracer.span_type(f"kind {i}", n="u32") for i in range(8)]

    def work(seed: int) -> None:
        picked = random.Random(seed)
        for i in range(records // 16):
            with types[i % 3](i), types[3 + picked.randrange(5)](i):
                pass

    with tracer.record(directory):
        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert tracer.stats().records_lost == 0
    tracer.channel.close()


def write(directory: str, page: Path) -> dict:
    before = resource.getrusage(resource.RUSAGE_SELF)
    with ringbuf.open_trace(directory) as trace:
        trace.report(page)
    after = resource.getrusage(resource.RUSAGE_SELF)
    used = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return {"write_cpu_s": used, "page_mb": page.stat().st_size / 1e6}


def looked_at(path: Path, args) -> list[dict]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=args.browser, args=["--no-sandbox", "--disable-gpu"])
        try:
            return [one_look(chromium, path, args.seconds) for _ in range(args.rounds)]
        finally:
            chromium.close()


def one_look(chromium, path: Path, seconds: float) -> dict:
    page = chromium.new_page(viewport={"width": 1280, "height": 800})
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    begin = time.perf_counter()
    page.goto(path.as_uri(), wait_until="commit")
    page.wait_for_selector("html[data-ready]", timeout=120_000)
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    found = {"first_picture_s": time.perf_counter() - begin, "first_picture_cpu_s": cpu_of(session)}
    page.evaluate("ringbuf.look(0, ringbuf.head.length)")
    found["slices_seen"] = page.evaluate(SEEN)
    page.evaluate(PAN, min(1.0, seconds))  # compiled
    before = cpu_of(session)
    times = page.evaluate(PAN, seconds)
    frames = len(times) - 1
    found["pan_cpu_ms"] = 1000 * (cpu_of(session) - before) / frames
    gaps = sorted(b - a for a, b in zip(times, times[1:], strict=False))
    found |= {"frames_per_s": 1000 * frames / (times[-1] - times[0]), "frame_p99_ms": gaps[int(0.99 * len(gaps))]}
    page.close()
    return found


def cpu_of(session) -> float:
    """Seconds of processor that the page's thread has taken."""
    metrics = session.send("Performance.getMetrics")["metrics"]
    return next(one["value"] for one in metrics if one["name"] == "TaskDuration")


if __name__ == "__main__":
    main()
