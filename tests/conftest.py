"""Shared by all tests: seeds, the tools that may be missing, and the list of what was not run."""

import os
import random
import sys
from collections import Counter

import needs
import pytest
from seeds import SEED

try:
    import hypothesis
except ImportError:
    pass
else:
    # No deadlines: a shared two-core machine stalls. The blob repeats a failure that CI found.
    hypothesis.settings.register_profile(
        "ringbuf", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow], print_blob=True
    )
    hypothesis.settings.load_profile("ringbuf")


def pytest_report_header():
    return f"seed: {SEED} (the same again: SEED={SEED})"


@pytest.fixture
def seed(request):
    """A number that differs from test to test, and depends on SEED alone."""
    return random.Random(f"{SEED} {request.node.nodeid}").getrandbits(32)


@pytest.fixture
def rng(seed):
    return random.Random(seed)


@pytest.fixture
def babeltrace2():
    """The path of the babeltrace2 command. Most tests want judge.py, which looks for what it needs by itself."""
    return needs.command("babeltrace2")


@pytest.fixture
def tiny_disk(tmp_path):
    """A file system of 1 MiB."""
    if os.geteuid() != 0:
        pytest.skip("mounting a file system needs root")
    mount, umount = needs.command("mount"), needs.command("umount")
    target = tmp_path / "disk"
    target.mkdir()
    if os.spawnv(os.P_WAIT, mount, ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(target)]):
        pytest.skip("mount is not permitted here")
    yield target
    os.spawnv(os.P_WAIT, umount, ["umount", "-l", str(target)])


def pytest_terminal_summary(terminalreporter):
    """Prints what was not run, and leaves it and the counts to `make test`, which prints those of all runs."""
    python = "{}.{}".format(*sys.version_info)
    reports = terminalreporter.stats
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reports.get("skipped", []))
    not_run = [f"CPython {python}: {count} test{'s' * (count > 1)}: {why}" for why, count in sorted(reasons.items())]
    if not_run:
        terminalreporter.section("not run")
        for line in not_run:
            terminalreporter.line(line)

    failures = len(reports.get("failed", [])) + len(reports.get("error", []))
    counts = f"{len(reports.get('passed', []))} passed, {failures} failed, {len(reports.get('skipped', []))} skipped"
    _append("RINGBUF_NOT_RUN", not_run)
    _append("RINGBUF_COUNTS", [f"{python}: {counts}"])


def _append(variable, lines):
    if variable in os.environ:
        with open(os.environ[variable], "a") as file:
            file.writelines(f"{line}\n" for line in lines)
