"""Sessions that LTTng records now, of each buffering scheme, mode, rotation and context: the lines of babeltrace2."""

import judge
import lttng_sessions
import needs
import pytest
from test_text import HELPER, SEVERAL

from ringbuf import open_trace

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def daemon():
    needs.command("lttng")
    needs.tool("lttng-ust")
    with lttng_sessions.Daemon() as daemon:
        yield daemon


def lines(text):
    """Events of equal times may stand in either order."""
    return sorted(SEVERAL.sub(r"( \1 : container", HELPER.sub("", text)).splitlines())


def without_the_time_since(text):
    """That depends on the order of equal times."""
    return [line.partition(" (+")[0] + line.partition(") ")[2] for line in lines(text)]


@pytest.mark.parametrize("buffers, mode, contexts, how", lttng_sessions.SCHEMES)
def test_a_session_has_the_lines_of_babeltrace2(daemon, monkeypatch, buffers, mode, contexts, how):
    directory = daemon.record(f"{buffers}-{mode}-{how}-{len(contexts)}", buffers, mode, contexts, how)
    monkeypatch.setenv("TZ", "UTC")
    expected = without_the_time_since(judge.text(directory, "--clock-date").stdout)
    with open_trace(directory) as trace:
        found = without_the_time_since("".join(trace.iter_text()))
        assert found == expected
        assert sum(trace.count().values()) == len(expected) == sum(1 for _ in trace)
        assert len(trace.to_numpy("app:all")) == trace.count()["app:all"]
    if how in ("plain", "rotated"):
        assert len(found) == 4 * lttng_sessions.COUNT
    if how == "rotated":
        assert len({one.partition("/ust")[0] for source in trace.sources for one in source.directories}) > 1
