"""The C headers on aarch64, cross-compiled and run by qemu's user emulation. `make aarch64` runs all C tests so."""

import cross
import judge
import needs
import pytest

from ringbuf.ctf.metadata import ChannelLayout, ClockInfo, channel_metadata
from ringbuf.ctf.schema import EventSchema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(autouse=True)
def tools():
    needs.command("aarch64-linux-gnu-gcc")
    needs.command("qemu-aarch64")


def test_positions_and_commits_are_right_on_aarch64():
    files = [cross.ROOT / "tests/c" / name for name in ("test_position.c", "test_commit.c")]
    cross.c_tests(cross.AARCH64, *files, "-k", "not compiles_with_clang")


def test_babeltrace2_reads_a_trace_that_was_written_on_aarch64(tmp_path):
    source = cross.ROOT / "tests/c/record_trace.c"
    done = cross.run(cross.AARCH64, source, tmp_path, tmp_path / "trace")
    assert done.returncode == 0, done.stderr
    uuid, freq, offset_s, offset = done.stdout.split()
    layout = ChannelLayout(
        uuid=bytes.fromhex(uuid),
        header="compact",
        per_cpu=True,
        clock=ClockInfo(freq=int(freq), offset_s=int(offset_s), offset_cycles=int(offset)),
        events=[EventSchema(0, "step", "", "n:u64")],
    )
    (tmp_path / "trace" / "metadata").write_text(channel_metadata(layout))
    events = judge.events(tmp_path / "trace")
    expected = [t * 5000 + i for t in range(4) for i in range(5000) if i % 7]
    assert sorted(event["fields"]["n"] for event in events) == expected
