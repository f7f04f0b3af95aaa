"""What Dask sends to its processes, and what it does there.

These classes travel by value: a process without ringbuf can take them, and goes on as if there were none. So they
refer to nothing of this package but by imports inside their methods.
"""

import os

from distributed.diagnostics.plugin import NannyPlugin, SchedulerPlugin, WorkerPlugin

__all__ = ["NannyShim", "SchedulerShim", "WorkerShim", "add_to", "packed"]


class WorkerShim(WorkerPlugin):
    """In each worker."""

    def __init__(self, options):
        self.options = options
        self.recording = None

    def setup(self, worker):
        try:
            from ringbuf.dask.worker import Recording

            self.recording = Recording(worker, self.options)
        except Exception as error:  # the worker is not to fail of it
            problem = f"{type(error).__name__}: {error}"

            def ringbuf_hello():
                return {"problem": problem}

            worker.handlers["ringbuf_hello"] = ringbuf_hello

    def transition(self, key, start, finish, **kwargs):
        if self.recording is not None:
            self.recording.transition(key, start, finish)

    def teardown(self, worker):
        if self.recording is not None:
            self.recording.close()


class NannyShim(NannyPlugin):
    """In each nanny."""

    restart = False

    def __init__(self, options):
        self.options = options
        self.agent = None

    def setup(self, nanny):
        try:
            from ringbuf.dask.agents import serve_nanny

            self.agent = serve_nanny(nanny, self.options)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"

            def ringbuf_hello():
                return {"problem": problem}

            nanny.handlers["ringbuf_hello"] = ringbuf_hello

    def teardown(self, nanny):
        if self.agent is not None:
            self.agent.close()
            for directory in self.agent.directories:
                try:
                    os.rmdir(directory)
                except OSError:  # somebody records still, or has died
                    pass


class SchedulerShim(SchedulerPlugin):
    """In the scheduler. Here a missing ringbuf is an error, which `install` raises."""

    def __init__(self, options):
        self.options = options
        self.coordinator = None

    def _is_open(self):
        return self.coordinator is not None and not self.coordinator.is_closed

    async def start(self, scheduler):
        from ringbuf.dask.scheduler import Coordinator

        if self._is_open():  # Dask starts once more what a preload has added
            return
        before = scheduler.plugins.get("ringbuf")
        if getattr(before, "coordinator", None) is not None:  # it is installed anew
            await before.coordinator.close()
            scheduler.remove_plugin("ringbuf")
        self.coordinator = Coordinator(scheduler, self.options)

    def add_worker(self, scheduler, worker):
        if self._is_open():
            self.coordinator.add_worker(worker)

    def remove_worker(self, scheduler, worker, *, stimulus_id, **kwargs):
        if self._is_open():
            self.coordinator.remove_worker(worker)

    def restart(self, scheduler):
        if self._is_open():
            self.coordinator.restart()

    def transition(self, key, start, finish, *args, stimulus_id=None, **kwargs):
        if self._is_open():
            self.coordinator.transition(key, start, finish, kwargs.get("worker"))

    def log_event(self, topic, msg):
        if self._is_open():
            self.coordinator.log_event(topic, msg)

    async def close(self):
        if self.coordinator is not None:
            await self.coordinator.close()


def packed(plugin) -> bytes:
    """A plug-in as bytes from which a process makes it that may have no ringbuf."""
    import sys

    import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(plugin)
    finally:
        cloudpickle.unregister_pickle_by_value(module)


async def add_to(server, options, name) -> None:
    """For `dask_setup`: to a scheduler, and so to all that it has; or to a nanny or worker."""
    from distributed import Nanny, Scheduler, Worker

    if isinstance(server, Scheduler):
        await server.register_scheduler_plugin(SchedulerShim(options), name, idempotent=True)
        await server.register_nanny_plugin(None, packed(NannyShim(options)), name, idempotent=True)
        await server.register_worker_plugin(None, packed(WorkerShim(options)), name, idempotent=True)
    elif isinstance(server, Nanny):
        await server.plugin_add(NannyShim(options), name=name)
    elif isinstance(server, Worker):
        await server.plugin_add(WorkerShim(options), name=name)
