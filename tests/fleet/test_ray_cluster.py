"""ringbuf.ray on real nodes of Ray, all on this machine."""

import os
import signal
import time

import needs
import pytest

import ringbuf

ray = needs.module("ray")
cluster_utils = needs.module("ray.cluster_utils")

from ray_tasks import Kitchen, Shop, hook, of_the_program, slow  # noqa: E402

import ringbuf.ray  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    directory = str(tmp_path_factory.mktemp("flight"))
    cluster = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False, "resources": {"head": 1}}
    )
    cluster.add_node(num_cpus=1, resources={"second": 1})
    given = {"worker_process_setup_hook": hook, "env_vars": {"PYTHONPATH": os.path.dirname(__file__)}}
    ray.init(address=cluster.address, runtime_env=ringbuf.ray.runtime_env(given, directory=directory))
    with ringbuf.ray.start() as recorder:
        yield cluster, recorder
    ray.shutdown()
    cluster.shutdown()


def test_tasks_of_all_nodes_are_recorded(cluster, tmp_path):
    _, recorder = cluster
    places = [{"head": 0.01}, {"second": 0.01}]
    assert ray.get([slow.options(resources=places[n % 2]).remote(n) for n in range(6)]) == list(range(6))
    manifest = recorder.snapshot(tmp_path / "set")
    assert not manifest.missing and {one.state for one in manifest.members} <= {"alive", "ended"}
    assert len({one.directory.partition("/")[0] for member in manifest.members for one in member.traces}) == 2
    with ringbuf.open_trace(tmp_path / "set") as trace:
        spans = list(trace.spans("slow"))
        assert len(spans) == 6 and all(span.duration >= 100_000_000 for span in spans)
        assert len({span.fields["task"] for span in spans}) == 6


def test_a_killed_actor_is_in_the_set_by_name(cluster, tmp_path):
    _, recorder = cluster
    shop = Shop.options(name="corner", max_restarts=0).remote()
    pid = ray.get(shop.pid.remote())
    shop.hang.remote()
    time.sleep(1)
    os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    manifest = recorder.snapshot(tmp_path / "set")
    (dead,) = [one for one in manifest.by_state("dead") if one.pid == pid]
    assert dead.traces[0].recovered
    with ringbuf.open_trace(tmp_path / "set") as trace:
        (last,) = trace.spans("Shop.hang")
        assert last.end_missing and last.fields["actor"] == "corner" and last.thread.pid == pid
        assert any(line.startswith("died: worker ") and "Shop.hang()" in line for line in trace.summary().set)


def test_what_a_worker_did_that_ray_has_ended_since_is_in_the_set(cluster, tmp_path):
    """So it ends those that have nothing to do, and actors that nobody refers to."""
    _, recorder = cluster
    shop = Shop.options(name="brief").remote()
    pid = ray.get(shop.pid.remote())
    del shop
    until(lambda: not os.path.exists(f"/proc/{pid}"))
    manifest = recorder.snapshot(tmp_path / "set")
    (ended,) = [one for one in manifest.by_state("ended") if one.pid == pid]
    assert not ended.problem and f"{len(manifest.by_state('ended'))} ended" in str(manifest)
    with ringbuf.open_trace(tmp_path / "set") as trace:
        assert [one.thread.pid for one in trace.spans("Shop.pid") if one.thread.pid == pid] == [pid]


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_coroutines_of_actors_are_spans_to_their_end(cluster, tmp_path):
    _, recorder = cluster
    kitchen = Kitchen.remote()
    ray.get([kitchen.cook.remote(0.3) for _ in range(3)])
    recorder.snapshot(tmp_path / "set")
    with ringbuf.open_trace(tmp_path / "set") as trace:
        spans = list(trace.spans("Kitchen.cook"))
        assert len(spans) == 3 and all(span.duration >= 290_000_000 for span in spans)


def test_errors_of_tasks_are_what_they_were(cluster, tmp_path):
    _, recorder = cluster
    shop = Shop.remote()  # an actor that nobody refers to ends well, and its file goes
    with pytest.raises(KeyError, match="sold out"):
        ray.get(shop.fail.remote())
    recorder.snapshot(tmp_path / "set")
    with ringbuf.open_trace(tmp_path / "set") as trace:
        (span,) = trace.spans("Shop.fail")
        assert span.error == "KeyError"


def test_the_hook_for_workers_stays_the_program_s(cluster):
    assert ray.get(of_the_program.remote()) == "1"


def test_a_node_that_joins_and_dies_costs_the_others_nothing(cluster, tmp_path):
    nodes, recorder = cluster
    third = nodes.add_node(num_cpus=1, resources={"third": 1})
    ray.get(slow.options(resources={"third": 0.01}).remote(1))
    before = recorder.snapshot(tmp_path / "before")
    assert len({one.directory.partition("/")[0] for member in before.members for one in member.traces}) == 3
    nodes.remove_node(third)
    began = time.monotonic()
    manifest = recorder.snapshot(tmp_path / "set", timeout=20)
    assert time.monotonic() - began < 40
    (dead,) = [one for one in manifest.members if one.role == "node"]
    assert dead.problem
    assert len([one for one in manifest.members if one.traces]) >= 2


def test_a_url_is_written_by_the_nodes(cluster, tmp_path):
    _, recorder = cluster
    ray.get(slow.remote(1))
    manifest = recorder.snapshot(f"file://{tmp_path}/set")
    assert manifest.members
    with ringbuf.open_trace(f"file://{tmp_path}/set") as trace:
        assert len(trace.manifest.members) == len(manifest.members)
    with pytest.raises(FileExistsError):
        recorder.snapshot(f"file://{tmp_path}/set")


def test_ray_data_reads_a_scan(cluster, tmp_path):
    tracer = ringbuf.Tracer("x", mode="discard", n_subbufs=16)
    event = tracer.event("e", n="u32", text="str")
    with tracer.record(tmp_path / "trace"):
        for n in range(20_000):
            event(n, f"text {n}")
    plan = ringbuf.scan(tmp_path / "trace", "e", ["n", "text"], size=65536)
    assert len(plan) > 1
    rows = plan.to_ray().take_all()
    assert sorted(row["n"] for row in rows) == list(range(20_000))
    assert all(row["text"] == f"text {row['n']}" for row in rows)


def test_what_makes_no_sense_is_refused(cluster, tmp_path):
    _, recorder = cluster
    with pytest.raises(ValueError, match="RINGBUF='flight' already"):
        ringbuf.ray.runtime_env({"env_vars": {"RINGBUF": "flight"}})
    with pytest.raises(ValueError, match="64 KiB"):
        ringbuf.ray.runtime_env(size=1)
    with pytest.raises(ValueError, match="start the job with"):
        ringbuf.ray.start({})
    with pytest.raises(ValueError, match="number of seconds"):
        recorder.snapshot(tmp_path / "set", last=-1)
