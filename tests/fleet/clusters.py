"""Real Dask clusters for tests: processes with nannies on this machine, and workers that lack something."""

import contextlib
import os
import subprocess
import sys
import textwrap
import time

import needs
from cluster_tasks import is_recorded

WAIT = 100  # seconds for anything that a healthy cluster does in two


@contextlib.contextmanager
def local_cluster(n_workers, **options):
    """A LocalCluster of processes with nannies, and its client."""
    distributed = needs.module("distributed")
    with (
        distributed.LocalCluster(
            n_workers=n_workers, threads_per_worker=1, processes=True, dashboard_address=None, **options
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def workers(client):
    """The addresses of the workers."""
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


def until(condition, what):
    """Wait for it."""
    end = time.monotonic() + WAIT
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.05)
    return found


def recorded(client, n):
    """Wait until so many workers record."""

    def count():
        names = client.run(is_recorded)
        return sum(names.values()) >= n

    until(count, "workers that record")


@contextlib.contextmanager
def another_worker(client, tmp_path, *, site="", arguments=(), prefix=()):
    """A worker of the command line, whose Python runs the text `site` as it starts; its process."""
    folder = tmp_path / f"site-{time.monotonic_ns()}"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(textwrap.dedent(site))
    command = [*prefix, sys.executable, "-m", "distributed.cli.dask_worker", client.scheduler.address, "--nthreads",
               "1", "--no-dashboard", "--name", "another", "--local-directory", str(tmp_path), *arguments]  # fmt: skip
    before = set(workers(client))
    with subprocess.Popen(
        command,
        env={**os.environ, "PYTHONPATH": f"{folder}:{os.path.dirname(__file__)}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            until(lambda: set(workers(client)) - before, "one more worker")
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, 9)


#: For `another_worker`: as if ringbuf were not installed there.
WITHOUT_RINGBUF = """
    import sys

    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "ringbuf":
                raise ModuleNotFoundError("No module named 'ringbuf'", name="ringbuf")

    sys.meta_path.insert(0, Absent())
"""

#: As if another version were.
OTHER_VERSION = """
    import importlib.abc, importlib.util, sys

    class Other(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path=None, target=None):
            if name != "ringbuf.fleet.node":
                return None
            sys.meta_path.remove(self)
            spec = importlib.util.find_spec(name)
            run = spec.loader.exec_module

            def exec_module(module):
                run(module)
                module.PROTOCOL, module.__version__ = 99, "9.9.9"

            spec.loader.exec_module = exec_module
            return spec

    sys.meta_path.insert(0, Other())
"""
