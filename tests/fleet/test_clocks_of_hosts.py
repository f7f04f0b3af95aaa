"""Hosts whose clocks are off by seconds and drift, behind a network with uneven delays: what comes before what."""

import re
import subprocess

import needs
import pytest
from hosts import Host, Hosts, answer_of

import ringbuf

needs.package("distributed")

MS = 1e-3
#: From host to host, seconds: one way is slow, the other fast, and no two packets take the same time.
DELAYS = {
    (1, 2): (4 * MS, 6 * MS), (2, 1): (0.5 * MS, 1 * MS),
    (1, 3): (1 * MS, 2 * MS), (3, 1): (3 * MS, 8 * MS),
    (2, 3): (5 * MS, 7 * MS), (3, 2): (5 * MS, 7 * MS),
}  # fmt: skip
SECONDS = 20.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def gathered(tmp_path_factory):
    """The hosts, and the path of a set of their traces."""
    tmp_path = tmp_path_factory.mktemp("hosts")
    hosts = [Host(1), Host(2, ahead=5, ppb=100_000), Host(3, ahead=60, ppb=-100_000)]
    with Hosts(hosts, DELAYS, tmp_path) as network:
        scheduler = f"tcp://{network.hosts[1].address}:8786"
        network.start_on(
            1, ["-m", "distributed.cli.dask_scheduler", "--host", network.hosts[1].address, "--no-dashboard"]
        )
        for number, name in ((2, "two"), (3, "three")):
            network.start_on(
                number, ["-m", "distributed.cli.dask_worker", scheduler, "--nthreads", "2", "--no-dashboard", "--host",
                         network.hosts[number].address, "--name", name, "--local-directory", str(tmp_path)],
            )  # fmt: skip
        program = network.start_on(
            1, ["-m", "host_program", scheduler, str(tmp_path / "flight"), str(tmp_path / "set"), str(SECONDS)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        found = answer_of(program, 180)
        assert found["problems"] == []
    return network, tmp_path / "set"


def number_of(member):
    """Of the host that a worker is on."""
    found = re.search(r"10\.77\.0\.(\d)", member.name)
    return int(found[1]) if found and member.role == "worker" else 1


def test_the_times_are_right_within_what_is_stated(gathered):
    network, path = gathered
    with ringbuf.open_trace(path) as trace:
        manifest = trace.manifest
    (scheduler,) = [one for one in manifest.members if one.name == "scheduler"]
    reference = scheduler.traces[0].offset_ns  # to CLOCK_MONOTONIC of the reference host, which is this machine's
    assert scheduler.traces[0].uncertainty_ns == 0
    workers = [one for one in manifest.members if one.role == "worker"]
    assert len(workers) == 2
    for member in workers:
        for one in member.traces:
            with ringbuf.open_trace(path / one.directory) as trace:
                for packet in trace.packets:
                    for ticks, ns in ((packet.begin_ticks, packet.begin), (packet.end_ticks, packet.end)):
                        error = ns - (network.truth(number_of(member), ticks) + reference)
                        assert abs(error) <= one.uncertainty_ns
            # What is stated says something: clocks off by seconds, round trips of 5 to 10 ms.
            assert one.uncertainty_ns < 6_000_000
            assert one.samples >= 2 and one.round_trip_ns > 4_000_000
            host = network.hosts[number_of(member)]
            assert abs(one.drift_ppb + host.ppb) < 1_000_000


def test_causes_come_before_effects(gathered):
    _, path = gathered
    with ringbuf.open_trace(path) as trace:
        uncertainty = {one.directory: one.uncertainty_ns for member in trace.manifest.members for one in member.traces}
        leaves = {one.fields["n"]: one.timestamp for one in trace.records("leaves")}
        arrives = {one.fields["n"]: one.timestamp for one in trace.records("arrives")}
    assert len(leaves) == len(arrives) == 2000 and leaves.keys() == arrives.keys()
    stated = sum(sorted(uncertainty.values())[-2:])
    assert all(arrives[n] - leaves[n] > -stated for n in leaves)
    right = sum(leaves[n] < arrives[n] for n in leaves)
    assert right >= 0.999 * len(leaves)


def test_babeltrace2_merges_them_in_the_same_order(gathered, babeltrace2):
    _, path = gathered
    with ringbuf.open_trace(path) as trace:
        ours = [(one.name, one.fields["n"]) for one in trace.records(["leaves", "arrives"])]
    found = subprocess.run(
        [babeltrace2, str(path)], capture_output=True, text=True, check=True, env={"TZ": "UTC"}
    ).stdout  # fmt: skip
    theirs = re.findall(r" (leaves|arrives): .*\{ n = (\d+) \}", found)
    assert [(name, int(n)) for name, n in theirs] == ours


def test_the_metadata_say_how_right_they_are(gathered):
    _, path = gathered
    with ringbuf.open_trace(path) as trace:
        for source in trace.sources:
            (clock,) = source.clocks.values()
            assert clock.absolute and source.env["ringbuf_clock_reference"].startswith("CLOCK_MONOTONIC of ")
            uncertainty = source.env["ringbuf_clock_uncertainty_ns"]
            assert clock.precision == -(-uncertainty * clock.freq // 10**9)
