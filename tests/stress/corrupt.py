#!/usr/bin/env python3
"""A hostile process scribbles over every word of a channel that others record into and read. They must all live.

    tests/stress/corrupt.py [--seconds=20] [--seed=N] [--mode=discard] [--streams=per-cpu]

Prints what each of them did; ends with 1 if one crashed, hung, or raised what it may not raise. Records are lost, of
course, and what is read may be nonsense.
"""

import argparse
import faulthandler
import mmap
import multiprocessing
import os
import random
import signal
import sys
import time

import ringbuf

GRACE = 60  # seconds for a process to notice that it is time to end: locks are waited for, and machines stall
# A packet that makes no sense is a TraceError; in a mapped meta page, an IndexError.
ALLOWED = (ringbuf.RingbufError, ringbuf.TraceError, IndexError, OSError)
fork = multiprocessing.get_context("fork")


def until(deadline, act, done):
    """Acts again and again; counts how often it worked and what it raised."""
    while time.monotonic() < deadline:
        try:
            act()
            key = "ok"
        except ALLOWED as error:
            key = type(error).__name__
        done[key] = done.get(key, 0) + 1


def scribble(descriptor, deadline, rng, done):
    """Words of all kinds, in all places: half of them where the ring's own words are."""
    with mmap.mmap(descriptor, 0) as memory:
        words = memoryview(memory).cast("Q")
        first = [i for i in range(0, len(words), 8) if any(words[i : i + 8])]
        while time.monotonic() < deadline:
            for _ in range(rng.choice([1, 10, 1000])):
                at = rng.randrange(len(words)) if rng.random() < 0.5 else rng.choice(first) + rng.randrange(8)
                old = words[at]
                words[at] = rng.choice(
                    [rng.getrandbits(64), old ^ 1 << rng.randrange(64), old + 4096 & (1 << 64) - 1, words[at - 1], 0]
                )
                done["words"] = done.get("words", 0) + 1
            time.sleep(rng.choice([0, 0.0001, 0.01]))
        words.release()


def record(channel, deadline, rng, done):
    declared = 0

    def act():
        nonlocal declared
        if rng.random() < 0.001 and declared < 200:
            declared += 1
            channel.declare_event(f"event{rng.randrange(50)}", "", "n:u64")
        elif rng.random() < 0.01:
            rng.choice([channel.flush, channel.repair, channel.stats, channel.enable])()
        elif rng.random() < 0.3:
            with channel.reserve(rng.randrange(3000)) as slot:
                slot.payload[:] = b"r" * len(slot.payload)
        else:
            channel.write(b"w" * rng.randrange(300))

    until(deadline, act, done)


def read(channel, deadline, rng, done):
    def packets(reader):
        for _ in range(50):
            packet = reader.next(timeout=0.01)
            if packet is None:
                return
            assert packet.content_size <= packet.packet_size <= channel.subbuf_size
            bytes(memoryview(packet))

    def act():
        with channel.reader() as reader:
            how = rng.randrange(5)
            if how < 2:
                packets(reader)
            elif how == 2:
                for packet in reader.snapshot():
                    bytes(memoryview(packet))
            elif how == 3:
                for record, _ in zip(reader.records(timeout=0.01), range(100), strict=False):
                    str(record)
            else:
                reader.clear()
        channel.stats()
        channel.repair()

    until(deadline, act, done)


def map_stream(channel, deadline, rng, done):
    def act():
        with channel.map() as mapped:
            for _ in range(20):
                mapped.get_reader()
                bytes(mapped.reader_data)
                bytes(mapped.new_data)
                str(mapped.meta)

    until(deadline, act, done)


def come_and_go(channel, deadline, rng, done):
    """Attaches, looks, records, and goes. The superblock may be anything."""
    path = f"/proc/self/fd/{channel.fileno()}"

    def act():
        with ringbuf.attach(path) as other:
            str(other), other.name, other.environment, other.streams, list(other.schemas())
            other.write(b"hello")
            other.stats()

    until(deadline, act, done)


ROLES = [record, record, read, map_stream, come_and_go]


def play(role, channel, deadline, seed, pipe):
    faulthandler.enable()
    faulthandler.dump_traceback_later(deadline - time.monotonic() + GRACE / 2)
    done = {}
    role(channel, deadline, random.Random(seed), done)
    pipe.send(done)


def run(seconds, seed, mode, streams):
    """Returns a line for each process, and the lines of those that failed."""
    rng = random.Random(seed)
    channel = ringbuf.Channel(
        "victim", subbuf_size=4096, n_subbufs=4, mode=mode, streams=streams, n_producers=16, schema_size=16384
    )
    deadline = time.monotonic() + seconds
    told, failed = [], []
    children = []
    for role, who in [(scribble, channel.fileno())] + [(role, channel) for role in ROLES]:
        ours, theirs = fork.Pipe(duplex=False)
        child = fork.Process(target=play, args=(role, who, deadline, rng.getrandbits(32), theirs))
        child.start()
        theirs.close()
        children.append((role.__name__, child, ours))
    for name, child, pipe in children:
        child.join(max(0, deadline - time.monotonic()) + GRACE)
        if child.exitcode is None:
            os.kill(child.pid, signal.SIGKILL)
            child.join()
            failed.append(f"{name} did not end")
        elif child.exitcode:
            failed.append(f"{name} ended with {child.exitcode}")
        else:
            told.append(f"{name}: {pipe.recv()}")
    # The parent's mapping is as damaged as anybody's.
    channel.stats()
    channel.close()
    return told, failed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--mode", choices=["discard", "overwrite"], default="overwrite")
    parser.add_argument("--streams", choices=["global", "per-cpu"], default="global")
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    told, failed = run(args.seconds, args.seed, args.mode, args.streams)
    print("\n".join(told + failed))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
