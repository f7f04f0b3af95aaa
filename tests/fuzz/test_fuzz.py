"""What once failed is replayed, and each target is fuzzed for a moment; `make fuzz` has longer runs."""

import needs
import pytest
import run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SECONDS = 2


@pytest.fixture(autouse=True)
def clang():
    needs.command("clang")


def test_each_crash_belongs_to_a_target():
    for crash in run.CRASHES.iterdir():
        assert f"fuzz_{crash.name.partition('-')[0]}" in [*run.TARGETS, "fuzz_trace"], crash


@pytest.mark.parametrize("target", run.TARGETS)
def test_nothing_fails_again_and_nothing_new_in_a_moment(target, seed, tmp_path):
    program = run.build(target, "-O0")  # compiles in a quarter of the time
    if run.crashes(target):
        done = run.replay(program, run.crashes(target))
        assert done.returncode == 0, done.stdout
    done = run.fuzz(program, SECONDS, seed, tmp_path)
    assert done.returncode == 0, done.stdout
    assert run.executions(done.stdout) > 10
