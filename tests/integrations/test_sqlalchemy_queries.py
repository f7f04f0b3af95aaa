"""SQLAlchemy: a span for each statement, synchronous and asynchronous."""

import asyncio

import needs
import pytest
import recorded

import ringbuf


@pytest.fixture
def tracer():
    with ringbuf.Tracer("db") as tracer:
        yield tracer


def test_statements(tracer, tmp_path):
    sqlalchemy = needs.module("sqlalchemy")
    from ringbuf.integrations.sqlalchemy import install

    engine = sqlalchemy.create_engine("sqlite://")
    install(engine, tracer)
    with tracer.span("work"), engine.connect() as connection:
        connection.execute(sqlalchemy.text("create table orders (n integer)"))
        connection.execute(sqlalchemy.text("insert into orders values (:n)"), [{"n": 1}, {"n": 2}])
        with pytest.raises(sqlalchemy.exc.OperationalError):
            connection.execute(sqlalchemy.text("select nothing"))
        assert connection.execute(sqlalchemy.text("select sum(n) from orders")).scalar() == 3
    spans, _ = recorded.of(tracer, tmp_path / "trace")
    assert [(fields.get("statement"), parent, error) for _, fields, parent, error, _ in spans] == [
        (None, "", ""), ("create table orders (n integer)", "work", ""), ("insert into orders values (?)", "work", ""),
        ("select nothing", "work", "OperationalError"), ("select sum(n) from orders", "work", ""),
    ]  # fmt: skip


def test_an_asynchronous_engine(tracer, tmp_path):
    needs.module("aiosqlite")
    sqlalchemy, asynchronous = needs.module("sqlalchemy"), needs.module("sqlalchemy.ext.asyncio")
    from ringbuf.integrations.sqlalchemy import install

    async def work():
        engine = asynchronous.create_async_engine("sqlite+aiosqlite://")
        install(engine, tracer)
        with tracer.span("work"):
            async with engine.connect() as connection:
                await connection.execute(sqlalchemy.text("select 1"))
        await engine.dispose()

    asyncio.run(work())
    spans, _ = recorded.of(tracer, tmp_path / "trace")
    assert [(name, parent) for name, _, parent, _, _ in spans] == [("work", ""), ("query", "work")]
