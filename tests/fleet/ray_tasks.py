"""Tasks and actors for tests. Workers import this module."""

import os
import time

import ray


@ray.remote(num_cpus=0.1)
def slow(number):
    time.sleep(0.1)
    return number


@ray.remote(num_cpus=0.1)
class Shop:
    def sell(self, number):
        return number

    def pid(self):
        return os.getpid()

    def hang(self):
        time.sleep(100)

    def fail(self):
        raise KeyError("sold out")


@ray.remote(num_cpus=0.1)
class Kitchen:
    async def cook(self, seconds):
        import asyncio

        await asyncio.sleep(seconds)


def hook():
    """Of the program: it stays its own."""
    os.environ["OF_THE_PROGRAM"] = "1"


@ray.remote(num_cpus=0.1)
def of_the_program():
    return os.environ.get("OF_THE_PROGRAM")
