"""structlog, loguru and warnings, as log records."""

import subprocess
import sys
import warnings

import needs
import pytest
import recorded

import ringbuf
from ringbuf.integrations.warnings import install


@pytest.fixture
def tracer():
    with ringbuf.Tracer("logs") as tracer:
        yield tracer


def logged(tracer, directory):
    return recorded.of(tracer, directory)[1]["log"]


def test_structlog(tracer, tmp_path):
    structlog = needs.module("structlog")
    from ringbuf.integrations.structlog import Processor

    written = []
    log = structlog.wrap_logger(
        structlog.PrintLogger(), processors=[Processor(tracer), lambda _, name, event: written.append(event) or "x"]
    )
    log.info("paid", order=7, who="\ud800")
    try:
        raise KeyError("x")
    except KeyError:
        log.exception("lost", order=8)
    first, second = logged(tracer, tmp_path / "trace")
    assert (first["level"], first["message"], first["function"]) == (
        "INFO",
        "paid order=7 who='\\ud800'",
        "test_structlog",
    )
    assert first["file"] == __file__ and first["exception"] == ""
    assert (second["level"], second["message"]) == ("ERROR", "lost order=8")
    assert second["exception"].endswith("KeyError: 'x'")
    assert written[0]["event"] == "paid" and written[0]["order"] == 7  # passed on as it was


def test_loguru(tracer, tmp_path):
    loguru = needs.module("loguru")
    from ringbuf.integrations.loguru import sink

    number = loguru.logger.add(sink(tracer), level="INFO")
    try:
        loguru.logger.debug("unseen")
        loguru.logger.warning("order {} is late", 7)
        try:
            raise KeyError("x")
        except KeyError:
            loguru.logger.exception("lost")
    finally:
        loguru.logger.remove(number)
    first, second = logged(tracer, tmp_path / "trace")
    assert (first["level"], first["message"], first["logger"]) == ("WARNING", "order 7 is late", __name__)
    assert (first["file"], first["function"]) == (__file__, "test_loguru")
    assert second["level"] == "ERROR" and second["exception"].endswith("KeyError: 'x'")


def test_warnings(tracer, tmp_path):
    shown = []
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_: shown.append(str(message))
        undo = install(tracer)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
        undo()
        warnings.warn("later", UserWarning, stacklevel=1)
    (one,) = logged(tracer, tmp_path / "trace")
    assert (one["level"], one["logger"], one["message"]) == ("WARNING", "py.warnings", "DeprecationWarning: old")
    assert one["file"] == __file__ and shown == ["old", "later"]


@pytest.mark.parametrize("name", ["structlog", "loguru", "django", "celery", "sqlalchemy", "opentelemetry"])
def test_a_library_that_is_missing_is_named(name):
    program = f"import sys; sys.modules[{name!r}] = None\nimport ringbuf.integrations.{name}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    if name in ("structlog", "loguru"):  # they are given what they need, and import nothing
        assert done.returncode == 0
    else:
        assert (
            done.returncode == 1
            and any(
                f"ModuleNotFoundError: No module named '{one}" in done.stderr for one in (name, "asgiref")
            )  # Django's
            or f"import of {name}" in done.stderr
        )
