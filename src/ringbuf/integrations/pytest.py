"""pytest: a span for each test, phase and fixture, in all workers of xdist, and a snapshot for each failure.

    pytest --ringbuf                    # into ringbuf-tests/; --ringbuf=DIRECTORY

The spans: ``test`` has the ``nodeid``; within it ``setup``, ``call`` and ``teardown``; within these ``fixture`` with
its ``name`` and ``scope``. The event ``outcome`` has the ``phase``, the ``outcome`` and the error of each. What is
logged is there too. At the end the directory has

    session/            the trace of all tests, of all workers, as far as the buffers hold it
    session.html        the same as a page
    failures/TEST/      what led to a failure, and TEST.html

The program under test finds the tracer as `ringbuf.integrations.tracer_or_default()`.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import sys
import time
import warnings

import pytest

from .. import integrations
from ..errors import ReaderBusyError, RingbufError
from ..record.logging_handler import LoggingHandler
from ..record.recorder import snapshot
from ..record.tracer import Tracer
from ..texts import encodable
from ..trace.trace import open_trace

__all__ = ["Plugin"]

_SIZE = {"subbuf_size": 1 << 20, "n_subbufs": 4}
_TRIES, _PAUSE = 100, 0.05  # for a snapshot, while another worker takes one
_LONG = 120  # characters of a name
_MARGIN = 0.5  # seconds before a failed test that its snapshot has
_PATH = "ringbuf_path"


class Plugin:
    """What is registered with pytest where it is asked for. One in each process."""

    def __init__(self, config) -> None:
        worker = getattr(config, "workerinput", None)
        self._is_worker = worker is not None
        self._directory = os.path.abspath(config.getoption("ringbuf"))
        if worker is not None:
            self._ring = worker[_PATH]
            self._tracer = Tracer.attach(self._ring)
        else:
            self._ring = os.path.join(self._directory, "ring")
            self._prepare()
            self._tracer = Tracer("tests", path=self._ring, contexts=("vpid", "vtid", "thread_name"), **_SIZE)
        integrations.use(self._tracer)
        self._test = self._tracer.span_type("test", nodeid="str")
        self._fixture = self._tracer.span_type("fixture", name="str", scope="str")
        self._phases = {phase: self._tracer.span_type(phase) for phase in ("setup", "call", "teardown")}
        self._outcome = self._tracer.event("outcome", phase="str", outcome="str", error="str")
        self._handler = LoggingHandler(self._tracer)
        logging.getLogger().addHandler(self._handler)
        self._began = time.monotonic()
        self._failures: list[str] = []

    def _prepare(self) -> None:
        """A directory for this run. What another run left there goes, and nothing else."""
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        for name in ("session", "failures"):
            shutil.rmtree(os.path.join(self._directory, name), ignore_errors=True)
        for name in ("ring", "session.html"):
            if os.path.lexists(os.path.join(self._directory, name)):
                os.unlink(os.path.join(self._directory, name))

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node) -> None:
        """xdist makes a worker: it records into the same buffers."""
        node.workerinput[_PATH] = self._ring

    # ---- tests ----

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item):
        self._began = time.monotonic()
        with self._test(encodable(item.nodeid)):
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item):
        with self._phases["setup"]():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item):
        with self._phases["call"]():
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item):
        with self._phases["teardown"]():
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef, request):
        with self._fixture(encodable(fixturedef.argname), str(fixturedef.scope)):
            return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = yield
        error = "" if call.excinfo is None else encodable(call.excinfo.exconly(tryshort=True))
        self._outcome(report.when, report.outcome, error)
        if report.failed:
            self._keep(item.nodeid, report.when)
        return report

    # ---- traces ----

    def _keep(self, nodeid: str, phase: str) -> None:
        """The last moments of a test that failed. Trouble is a warning, and the test's own failure stands."""
        name = re.sub(r"[^\w.-]+", "_", nodeid, flags=re.ASCII).strip("_")[-_LONG:]
        name = name if phase == "call" else f"{name}-{phase}"
        folder = os.path.join(self._directory, "failures")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        last = time.monotonic() - self._began + _MARGIN
        if self._write(os.path.join(folder, name), last):
            self._failures.append(name)

    def _write(self, directory: str, last: float | None) -> bool:
        try:
            for attempt in range(_TRIES):
                try:
                    shutil.rmtree(directory, ignore_errors=True)  # of the same test, run again
                    snapshot(self._tracer.channel, directory, last=last)
                    break
                except ReaderBusyError:
                    if attempt == _TRIES - 1:
                        raise
                    time.sleep(_PAUSE)
            with open_trace(directory) as trace:
                trace.report(directory + ".html")
        except (OSError, RingbufError, ValueError) as error:
            warnings.warn(pytest.PytestWarning(f"ringbuf: {directory}: {error}"), stacklevel=2)
            return False
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        logging.getLogger().removeHandler(self._handler)
        if not self._is_worker:
            self._write(os.path.join(self._directory, "session"), None)

    def pytest_terminal_summary(self, terminalreporter) -> None:
        """Where it is."""
        terminalreporter.section("ringbuf")
        terminalreporter.line(f"all tests: {os.path.join(self._directory, 'session.html')}")
        folder = os.path.join(self._directory, "failures")
        pages = sorted(name for name in os.listdir(folder) if name.endswith(".html")) if os.path.isdir(folder) else []
        for name in pages:
            terminalreporter.line(f"failure:   {os.path.join(folder, name)}")

    def pytest_unconfigure(self) -> None:
        """The buffers go; what they had is written."""
        if sys.modules.get("ringbuf.integrations") is integrations:
            integrations.use(None)
        self._tracer.close()
        if not self._is_worker and os.path.lexists(self._ring):
            os.unlink(self._ring)
