"""Nobody's pause is another's loss: processes flat out, more than there are CPUs, and one stopped in mid-record."""

import os
import signal

import pytest
import rings

import ringbuf

RECORDS = 40_000  # of each process: the rings come round often


def record_many(channel, number):
    payload = number.to_bytes(8, "little") * 4
    for _ in range(RECORDS):
        channel.write(payload)


def lives(pids):
    return [pid for pid in pids if rings.exit_code(pid) != 0]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_flat_out_lose_nothing_to_each_others_pauses():
    with ringbuf.Channel("flat", mode="overwrite", subbuf_size=16384) as channel:
        pids = [rings.fork(lambda number=number: record_many(channel, number)) for number in range(16)]
        assert not lives(pids)
        stats = channel.stats()
        assert stats.records_lost == 0
        assert stats.records_written == stats.attempts == 16 * RECORDS
        assert stats.records_written == stats.records_overrun + stats.records_unread
        assert stats.parked_now == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_that_is_stopped_costs_fifteen_others_nothing():
    with ringbuf.Channel("stopped", mode="overwrite", subbuf_size=16384) as channel:
        ready_read, ready_write = os.pipe()

        def stop_in_the_middle():
            slot = channel.reserve(8)
            os.write(ready_write, b"x")
            os.kill(os.getpid(), signal.SIGSTOP)
            slot.payload[:] = b"resumed!"
            slot.commit()

        stopped = rings.fork(stop_in_the_middle)
        os.read(ready_read, 1)
        os.waitpid(stopped, os.WUNTRACED)
        pids = [rings.fork(lambda number=number: record_many(channel, number)) for number in range(15)]
        assert not lives(pids)
        stats = channel.stats()
        assert stats.records_lost == 0
        assert stats.records_written == 15 * RECORDS
        os.kill(stopped, signal.SIGCONT)
        assert rings.exit_code(stopped) == 0
        stats = channel.stats()
        assert stats.records_written == 15 * RECORDS + 1
        assert stats.records_written == stats.records_overrun + stats.records_unread  # its own is one of these
        assert stats.parked_now == 0
