#!/usr/bin/env python3
"""Kills producers, readers' recorders and repairers at random instants, thousands of times.

    tests/kill/torture.py [--deaths=5000] [--seconds=S] [--mode=discard] [--streams=per-cpu] [--readers] [--seed=N]

Some are stopped for a while first. At the end no survivor is blocked, every record that was committed is in a trace (in
discard mode), and all counters agree. With --readers, those who read are killed too, instead of one who records all.
Ends at so many deaths or seconds.
"""

import argparse
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from stage import Stage


class Victim:
    """An actor, and what is to be done to it when."""

    def __init__(self, stage, role, rng):
        self.number = stage.start(role)
        self.process = stage.process(self.number)
        self.rng = rng
        # half of them die in their first moments, when they register and open
        lifetime = rng.expovariate(1 / 0.003) if rng.random() < 0.5 else rng.expovariate(1 / 0.03)
        self.kill_at = time.monotonic() + 0.002 + lifetime
        self.stop_at = self.kill_at - rng.random() * lifetime if rng.random() < 0.1 else None

    def attend(self, now):
        """True when it is dead."""
        if self.stop_at and now >= self.stop_at:
            self.stop_at = None
            self.process.send_signal(signal.SIGSTOP)
            if self.rng.random() < 0.5:
                self.process.send_signal(signal.SIGCONT)
        if now < self.kill_at:
            return False
        self.process.send_signal(self.rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGABRT]))
        self.process.send_signal(signal.SIGCONT)
        self.process.wait()
        return True


def roles_of(stage, readers, rng):
    """Roles for ever, for those who are to die."""
    roles = ["producer"] * 5 + ["repairer", "declarer"] + ["reader", "mapper", "recorder"] * (2 * readers)
    for number in itertools.count():
        role = rng.choice(roles)
        yield f"recorder:{stage.directory}/killed{number}" if role == "recorder" else role


def torture(stage, deaths, seconds, readers, rng, progress=lambda n: None):
    """Returns how many died."""
    if not readers:
        stage.record()
    survivors = [stage.start(), stage.start()]
    roles = roles_of(stage, readers, rng)
    victims = [Victim(stage, next(roles), rng) for _ in range(3)]
    end = time.monotonic() + seconds
    died = 0
    while died < deaths and time.monotonic() < end:
        for i, victim in enumerate(victims):
            if victim.attend(time.monotonic()):
                died += 1
                progress(died)
                victims[i] = Victim(stage, next(roles), rng)
                if died % 250 == 0:
                    stage.attempt_on(survivors, 200)
        time.sleep(0.0002)
    for victim in victims:
        victim.process.kill()
        victim.process.wait()
    if readers:
        stage.record()
    stage.go_on(survivors)
    return died


def run(directory, mode, streams, readers, deaths, seconds, seed, progress=lambda n: None):
    with Stage(directory, mode=mode, streams=streams, actors=deaths + 100) as stage:
        died = torture(stage, deaths, seconds, readers, random.Random(seed), progress)
        stats, tallies = stage.check()
        stage.check_traces(stats, tallies, every=mode == "discard" and not readers)
    return died, stats


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--deaths", type=int, default=5000)
    parser.add_argument("--seconds", type=float, default=1e9)
    parser.add_argument("--mode", choices=["discard", "overwrite"], default="discard")
    parser.add_argument("--streams", choices=["global", "per-cpu"], default="per-cpu")
    parser.add_argument("--readers", action="store_true")
    parser.add_argument("--seed", type=int, default=int(os.environ.get("SEED") or time.time_ns() % 2**32))
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)

    def progress(died):
        if died % 100 == 0:
            print(f"\r{died} deaths", end="", flush=True)

    with tempfile.TemporaryDirectory() as directory:
        died, stats = run(
            directory, args.mode, args.streams, args.readers, args.deaths, args.seconds, args.seed, progress
        )
    print(f"\r{died} deaths, {stats.records_torn} records torn, {stats.records_written} written,", end=" ")
    print(f"{stats.records_read} read, {stats.records_lost} lost, {stats.records_overrun} overrun: all accounted for")


if __name__ == "__main__":
    main()
