"""What once failed is replayed, and each target is fuzzed for a moment; `make fuzz` has longer runs."""

import re

import fuzz_trace
import needs
import pytest
import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 2


def test_each_crash_belongs_to_a_target():
    for crash in run.CRASHES.iterdir():
        assert f"fuzz_{crash.name.partition('-')[0]}" in run.TARGETS, crash


@pytest.mark.parametrize("target", run.TARGETS)
def test_nothing_fails_again_and_nothing_new_in_a_moment(target, seed, tmp_path):
    needs.tool("libclang_rt")
    program = run.build(target, "-O0")  # compiles in a quarter of the time
    if run.crashes(target):
        done = run.replay(program, run.crashes(target))
        assert done.returncode == 0, done.stdout
    done = run.fuzz(program, SECONDS, seed, tmp_path)
    assert done.returncode == 0, done.stdout
    assert run.executions(done.stdout) > 10


@pytest.mark.parametrize("kind", [0, 1])
def test_any_number_of_the_metadata_can_be_any_other(kind, tmp_path):
    trace = fuzz_trace.make_traces()[kind]
    text = trace["metadata"].decode()
    for number in re.finditer(r"-?\d+", text):
        for other in (0, 65, 1 << 64, -1):
            changed = text[: number.start()] + str(other) + text[number.end() :]
            error = fuzz_trace.run({**trace, "metadata": changed.encode()}, tmp_path / "kept")
            assert error is None, f"{tmp_path}/kept: {text[: number.start()][-40:]} {other}: {error!r}"


def test_traces_with_changed_bytes_raise_nothing_but_trace_errors(seed):
    count, failed = fuzz_trace.fuzz(SECONDS, seed)
    assert not failed, failed
