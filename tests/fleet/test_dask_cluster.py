"""ringbuf.dask on real clusters: what a snapshot shows, and who cannot be shown."""

import os
import shutil
import signal
import time

import needs
import pytest
from cluster_tasks import ask_for_a_snapshot, fail, hang, slow, spin
from clusters import OTHER_VERSION, WITHOUT_RINGBUF, another_worker, local_cluster, recorded, until, workers

import ringbuf

needs.module("distributed")

import ringbuf.dask  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def install(client, tmp_path, **options):
    ringbuf.dask.install(client, directory=str(tmp_path / "flight"), **options)
    recorded(client, len(workers(client)))


@pytest.fixture
def four(tmp_path):
    with local_cluster(4) as client:
        install(client, tmp_path)
        yield client


@pytest.fixture
def two(tmp_path):
    with local_cluster(2) as client:
        install(client, tmp_path)
        yield client


def snapshot(client, path, **options):
    return ringbuf.dask.snapshot(client, path, **options)


def named(manifest, name):
    return next(one for one in manifest.members if one.name == name)


# ---- deaths ----


def test_the_deaths_of_two_of_four_workers_are_on_one_time_line(four, tmp_path):
    pids = four.run(os.getpid)
    (tmp_path / "begun").mkdir()
    futures = [
        four.submit(hang, str(tmp_path / "begun"), workers=[one], allow_other_workers=True, pure=False) for one in pids
    ]
    until(lambda: len(os.listdir(tmp_path / "begun")) == 4, "a task on each")
    victims = dict(list(pids.items())[:2])
    for pid in victims.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: len(workers(four)) == 4 and not set(victims) & set(workers(four)), "two new workers")
    recorded(four, 4)
    manifest = snapshot(four, tmp_path / "set")

    assert {one.name for one in manifest.by_state("dead")} == set(victims)
    assert {one.pid for one in manifest.by_state("dead")} == set(victims.values())
    assert not manifest.missing and len(manifest.by_state("alive")) == 5  # the scheduler, two old, two new
    with ringbuf.open_trace(tmp_path / "set") as trace:
        removed = {one.fields["worker"]: one for one in trace.records("worker_removed")}
        moved = list(trace.records("transition"))
        spans = [span for span in trace.spans("hang") if span.end_missing]
        for victim, pid in victims.items():
            (last,) = [span for span in spans if span.thread.pid == pid]
            death = named(manifest, victim).end
            assert last.begin <= death < removed[victim].timestamp
            assert removed[victim].fields["expected"] == 0
            key = last.fields["key"]
            # What the scheduler does about it: the task that died with its worker is given to another.
            after = [
                one.fields
                for one in moved
                if one.timestamp > removed[victim].timestamp and one.fields["key"] == key and "worker" in one.fields
            ]
            assert after[0]["start"] == "processing"
            assert "processing" in [one["finish"] for one in after]
        lines = str(trace.summary()).splitlines()
    assert [line.startswith("died: worker ") for line in lines[:3]] == [True, True, False]
    assert all("last span hang-" in line and "not ended" in line for line in lines[:2])
    four.cancel(futures)


def test_workers_that_come_later_are_recorded(two, tmp_path):
    two.cluster.scale(3)
    recorded(two, 3)
    manifest = snapshot(two, tmp_path / "set")
    assert [one.state for one in manifest.members] == ["alive"] * 4 and not manifest.missing


def test_what_the_code_of_tasks_records_is_in_the_set(two, tmp_path):
    future = two.submit(spin, 17, str(tmp_path))
    until((tmp_path / "recorded").exists, "a task that runs")
    snapshot(two, tmp_path / "set")
    (tmp_path / "end").touch()
    with ringbuf.open_trace(tmp_path / "set") as trace:
        assert trace.to_numpy("mine")["n"].tolist() == [17]
    assert future.result().startswith(str(tmp_path / "flight"))


def test_errors_of_tasks_and_waiting_are_recorded(two, tmp_path):
    with pytest.raises(KeyError):
        two.submit(fail, 1).result()
    two.gather(two.map(slow, range(10)))
    snapshot(two, tmp_path / "set")
    with ringbuf.open_trace(tmp_path / "set") as trace:
        (error,) = trace.records("task_erred")
        assert "nothing is called so" in error.fields["error"]
        assert trace.count()["event_loop_lag"] >= 2 and trace.count()["gil_wait"] >= 2
        assert len([span for span in trace.spans("slow") if not span.end_missing]) == 10


def test_who_was_sent_away_is_not_missed(two, tmp_path):
    two.retire_workers(workers(two)[:1])
    until(lambda: len(workers(two)) == 1, "one worker less")
    manifest = snapshot(two, tmp_path / "set")
    assert [one.state for one in manifest.members] == ["alive", "alive"]
    assert all(str(tmp_path) not in line for line in str(manifest).splitlines())


def test_who_was_restarted_is_not_missed(tmp_path):
    with local_cluster(2) as client:
        install(client, tmp_path, triggers=str(tmp_path / "sets"))
        client.restart()
        recorded(client, 2)
        time.sleep(2.5)
        manifest = snapshot(client, tmp_path / "set")
        assert [one.state for one in manifest.members] == ["alive"] * 3
        assert not sets_in(tmp_path / "sets")


def test_workers_of_the_program_s_own_process_are_recorded(tmp_path):
    distributed = needs.module("distributed")
    with (
        distributed.LocalCluster(n_workers=2, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        install(client, tmp_path)
        client.gather(client.map(slow, range(4)))
        snapshot(client, tmp_path / "set")
        assert "RINGBUF_DIR" not in os.environ
    with ringbuf.open_trace(tmp_path / "set") as trace:
        assert len(list(trace.spans("slow"))) == 4 and len(trace.manifest.members) == 3
    assert not list((tmp_path / "flight").rglob("*.ringbuf"))


# ---- who cannot be shown ----


@pytest.mark.parametrize(
    ("site", "why"),
    [(WITHOUT_RINGBUF, "No module named 'ringbuf'"), (OTHER_VERSION, "it has ringbuf 9.9.9")],
    ids=["without", "another version"],
)
def test_a_worker_without_this_ringbuf_is_named_and_works(two, tmp_path, site, why):
    with another_worker(two, tmp_path, site=site):
        assert two.gather(two.map(slow, range(12), pure=False)) == list(range(12))
        manifest = snapshot(two, tmp_path / "set", timeout=100)
        (missing,) = manifest.missing
        assert missing.label == "another" and why in missing.problem
        assert len([one for one in manifest.members if one.traces]) == 3
        assert str(manifest).startswith("missing: worker another")


def test_a_worker_that_hangs_has_a_trace(two, tmp_path):
    pid = list(two.run(os.getpid).values())[0]
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(3)
        began = time.monotonic()
        manifest = snapshot(two, tmp_path / "set", timeout=200)
        assert time.monotonic() - began < 150
    finally:
        os.kill(pid, signal.SIGCONT)
    assert not manifest.missing
    late = [line for line in str(manifest).splitlines() if "before the others' end" in line]
    assert len(late) == 1 and late[0].startswith("worker ")


def test_an_agent_that_does_not_answer_costs_the_others_nothing(two, tmp_path):
    with another_worker(two, tmp_path) as nanny:
        recorded(two, 3)
        snapshot(two, tmp_path / "before")
        os.kill(nanny.pid, signal.SIGSTOP)
        began = time.monotonic()
        try:
            manifest = snapshot(two, tmp_path / "set", timeout=8)
        finally:
            os.kill(nanny.pid, signal.SIGCONT)
        assert time.monotonic() - began < 200
        # Another agent of the machine reads its files.
        assert len([one for one in manifest.members if one.traces]) == 4


def test_a_full_disk_is_named(tmp_path, tiny_disk):
    from ringbuf.fleet.node import safe_name

    with local_cluster(2) as client:
        full = client.cluster.workers[0]
        (tmp_path / "flight").mkdir(mode=0o700)
        (tmp_path / "flight" / safe_name(full.address)).symlink_to(tiny_disk)
        ringbuf.dask.install(client, directory=str(tmp_path / "flight"))
        assert client.gather(client.map(slow, range(4))) == list(range(4))
        manifest = snapshot(client, tmp_path / "set", timeout=100)
        (missing,) = manifest.missing
        assert missing.name == full.worker_address and "MiB of buffers" in missing.problem
        with pytest.raises(OSError, match="MiB of buffers"):
            ringbuf.dask.install(client, directory=str(tiny_disk))


def test_a_snapshot_needs_an_installation_and_a_new_directory(tmp_path):
    with local_cluster(1) as client:
        with pytest.raises(ValueError, match="call ringbuf.dask.install\\(client\\) first"):
            snapshot(client, tmp_path / "set", timeout=1)
        install(client, tmp_path)
        snapshot(client, tmp_path / "set")
        with pytest.raises(FileExistsError):
            snapshot(client, tmp_path / "set")
        for wrong in ({"last": -1}, {"timeout": 0}):
            with pytest.raises(ValueError, match="number of seconds"):
                snapshot(client, tmp_path / "other", **wrong)


# ---- triggers, URLs, preload ----


def sets_in(path):
    return [one.parent for one in path.glob("*/manifest.json")]


def test_a_task_snapshots_the_cluster(tmp_path):
    with local_cluster(2) as client:
        install(client, tmp_path, triggers=str(tmp_path / "sets"), pause=60)
        client.gather([client.submit(ask_for_a_snapshot, pure=False) for _ in range(3)])
        (made,) = until(lambda: sets_in(tmp_path / "sets"), "a snapshot")
        time.sleep(0.5)
        assert sets_in(tmp_path / "sets") == [made]
        with ringbuf.open_trace(made) as trace:
            assert trace.manifest.reason == "too slow" and len(trace.sources) == 3


def test_a_death_snapshots_the_cluster(tmp_path):
    with local_cluster(2) as client:
        install(client, tmp_path, triggers=f"file://{tmp_path}/sets")
        victim, pid = list(client.run(os.getpid).items())[0]
        os.kill(pid, signal.SIGKILL)
        (made,) = until(lambda: sets_in(tmp_path / "sets"), "a snapshot")
        with ringbuf.open_trace(f"file://{made}") as trace:
            assert trace.manifest.reason == f"worker {victim} died"
            assert named(trace.manifest, victim).state == "dead"


def test_the_readme_s_ten_lines_do_what_they_say(two, tmp_path, monkeypatch):
    from readme import blocks

    from ringbuf.dask.agents import directory_of

    (code,) = [text for _, text in blocks("py") if "ringbuf.dask" in text]
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) <= 10
    first, second = code.split("ringbuf.dask.snapshot", 1)
    monkeypatch.chdir(tmp_path)
    names = {"client": two, "work": slow}
    exec(first, names)
    recorded(two, 2)
    until(lambda: sum(one.done() for one in names["numbers"]) > 10, "some work of both")
    address, victim = list(two.run(os.getpid).items())[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: address not in workers(two), "one worker less")
    printed = []
    exec("import ringbuf\nringbuf.dask.snapshot" + second, {**names, "print": printed.append})
    told = str(printed[0]).splitlines()[0]
    assert told.startswith("died: worker ") and "last span slow-" in told  # ended or not: it dies at any moment
    assert (tmp_path / "what-happened.pftrace").stat().st_size > 1000
    two.cancel(names["numbers"])
    for nanny in two.cluster.workers.values():  # what the dead have left, where nobody has said
        shutil.rmtree(directory_of(ringbuf.dask.Options().base(), nanny.address), ignore_errors=True)


def test_dask_s_preload_installs_it(tmp_path, monkeypatch):
    dask = needs.module("dask")
    monkeypatch.setenv("RINGBUF_DASK_DIRECTORY", str(tmp_path / "flight"))
    with dask.config.set({"distributed.scheduler.preload": ["ringbuf.dask"]}), local_cluster(2) as client:
        recorded(client, 2)
        manifest = snapshot(client, tmp_path / "set")
        assert len([one for one in manifest.members if one.traces]) == 3


def test_it_can_be_installed_again_with_other_options(two, tmp_path):
    install(two, tmp_path / "other", size=1 << 20)
    until(lambda: len(list((tmp_path / "other").rglob("*.ringbuf"))) >= 3, "new files")
    manifest = snapshot(two, tmp_path / "set")
    assert len([one for one in manifest.members if one.traces]) == 3
    assert not list((tmp_path / "flight").rglob("scheduler.ringbuf"))


def test_uninstalling_leaves_nothing(tmp_path):
    with local_cluster(2) as client:
        install(client, tmp_path)
        ringbuf.dask.uninstall(client)
        assert client.gather(client.map(slow, range(2))) == [0, 1]
    assert list((tmp_path / "flight").rglob("*.ringbuf")) == []
