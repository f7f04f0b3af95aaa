"""concurrent.futures' pools, and what asyncio gives to them."""

import asyncio
import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

import pytest
import recorded

import ringbuf
from ringbuf.integrations.executors import install

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def tracer():
    with ringbuf.Tracer("pools") as tracer:
        yield tracer


@pytest.fixture
def undo(tracer):
    undo = install(tracer)
    yield undo
    undo()


def square(n):
    return n * n


def fail(n):
    raise KeyError(n)


def work_of(tracer, directory):
    """(name, error, what it follows) of each span but those that submit."""
    spans, _ = recorded.of(tracer, directory)
    return sorted((name, error, follows) for name, _, _, error, follows in spans if not name.startswith("submits"))


SQUARE, FAIL = f"{__name__}.square", f"{__name__}.fail"


@pytest.mark.usefixtures("undo")
def test_a_pool_of_threads(tracer, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        with tracer.span("submits one"):
            assert pool.submit(square, 3).result() == 9
            assert isinstance(pool.submit(fail, n=1).exception(), KeyError)
        with tracer.span("submits many"):
            assert list(pool.map(square, [1, 2])) == [1, 4]
        assert pool.submit(functools.partial(square, 5)).result() == 25  # by nobody: it follows nothing
    assert work_of(tracer, tmp_path / "trace") == [
        (FAIL, "KeyError", ["submits one"]),
        (SQUARE, "", []),
        (SQUARE, "", ["submits many"]),
        (SQUARE, "", ["submits many"]),
        (SQUARE, "", ["submits one"]),
    ]


@pytest.mark.usefixtures("undo")
def test_a_pool_of_processes(tracer, tmp_path):
    with ProcessPoolExecutor(1, SPAWN) as pool, tracer.span("submits"):
        assert pool.submit(square, 3).result() == 9
        assert list(pool.map(square, [1, 2], chunksize=2)) == [1, 4]
    assert work_of(tracer, tmp_path / "trace") == [(SQUARE, "", ["submits"])] * 2


@pytest.mark.usefixtures("undo")
def test_what_asyncio_gives_to_threads(tracer, tmp_path):
    async def main():
        with tracer.span("submits"):
            assert await asyncio.to_thread(square, 3) == 9
            assert await asyncio.get_running_loop().run_in_executor(None, square, 4) == 16

    asyncio.run(main())
    assert work_of(tracer, tmp_path / "trace") == [(SQUARE, "", ["submits"])] * 2


def test_undone_and_after_the_tracer_pools_are_as_before(tracer, undo, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        undo()
        undo()
        assert pool.submit(square, 3).result() == 9
        again = install(tracer)
        try:
            tracer.channel.close()
            assert pool.submit(square, 3).result() == 9
            with pytest.raises(TypeError):
                pool.submit()
        finally:
            again()
