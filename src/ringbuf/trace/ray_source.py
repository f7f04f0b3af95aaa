"""A scan as a source of Ray Data. Ray is imported with this module."""

from __future__ import annotations

from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

__all__ = ["datasource"]


class _Source(Datasource):
    """A read task for each partition."""

    def __init__(self, plan) -> None:
        super().__init__()
        self._plan = plan

    def estimate_inmemory_data_size(self):
        return sum(one.size for one in self._plan.partitions)

    def get_read_tasks(self, parallelism: int, per_task_row_limit=None, data_context=None):
        return [self._task(partition, per_task_row_limit) for partition in self._plan.partitions]

    def _task(self, partition, limit):
        plan = self._plan

        def read():
            yield plan.read(partition)

        about = BlockMetadata(num_rows=None, size_bytes=partition.size, input_files=None, exec_stats=None)
        return ReadTask(read, about, schema=plan.schema, per_task_row_limit=limit)


def datasource(plan) -> Datasource:
    """Of a `Scan`."""
    return _Source(plan)
