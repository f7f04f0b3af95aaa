"""Processes that live and end in every way, over one channel, with `ringbuf stream` outside; `make chaos TIME=600`.

    python tests/stress/chaos.py --seconds 600       # SEED=1234 before it makes the same choices again

Actors record, fork, become daemons that close all descriptors, change directory, execute themselves anew, close and
attach again, record from threads, and end: well, by os._exit, by SIGTERM or SIGKILL, or killed by somebody else at any
moment. The disk of the trace is full now and then. At the end the stream has ended by itself, with the last of them,
and every record that an actor was told to be accepted is in the trace, once; every other one was counted as lost.
"""

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # as pytest does

import judge

import ringbuf

ACTORS = 4  # that the director starts, at a time; their children come on top
BURST = 1000  # records at most


# ---- an actor ----


class Actor:
    """Does one thing after the other, until it ends."""

    def __init__(self, folder, seed, deadline):
        self.folder, self.deadline = folder, deadline
        self.rng = random.Random(seed)
        self.become(seed)
        self.attach()

    def become(self, name):
        """A name for its records; a child needs one of its own."""
        self.name, self.n = name, 0

    def attach(self):
        self.tracer = ringbuf.Tracer.attach(f"{self.folder}/ring")
        self.step = self.tracer.event("step", actor="u64", n="u32")

    def note(self, **what):
        """Append to the log in one write; by path, because others close all descriptors."""
        fd = os.open(f"{self.folder}/log", os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        os.write(fd, json.dumps({"actor": self.name, **what}).encode() + b"\n")
        os.close(fd)

    def record(self):
        first, n = self.n, self.rng.randrange(1, BURST)
        self.n += n
        self.note(first=first, n=n)
        self.note(first=first, accepted=[i for i in range(first, first + n) if self.step(self.name, i)])

    def record_in_a_thread(self):
        thread = threading.Thread(target=self.record)
        thread.start()
        thread.join()

    def fork(self):
        seed = self.rng.getrandbits(48)
        if os.fork() == 0:
            self.rng.seed(seed)
            self.become(seed)

    def become_a_daemon(self):
        seed = self.rng.getrandbits(48)
        if os.fork():
            return
        os.setsid()
        if os.fork():
            os._exit(0)
        os.chdir("/")
        os.closerange(0, 64)
        self.rng.seed(seed)
        self.become(seed)

    def change_directory(self):
        os.chdir(self.rng.choice(["/", self.folder, "/tmp"]))

    def close_and_attach(self):
        self.tracer.close()
        self.attach()

    def execute(self):
        seed = self.rng.getrandbits(48)
        os.execv(sys.executable, [sys.executable, __file__, "--actor", self.folder, str(seed), repr(self.deadline)])

    def wait(self):
        time.sleep(self.rng.random() / 50)

    def end(self):
        sys.exit(self.rng.choice([0, 3]))

    def end_at_once(self):
        os._exit(self.rng.choice([0, 3]))

    def terminate(self):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    #: and how often; children are fewer than ends
    WAYS = {
        record: 40, record_in_a_thread: 5, wait: 20, change_directory: 5, close_and_attach: 4, execute: 4,
        fork: 3, become_a_daemon: 2, end: 2, end_at_once: 2, terminate: 2, kill: 2,
    }  # fmt: skip

    def act(self):
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        while time.monotonic() < self.deadline:
            self.rng.choices(list(self.WAYS), self.WAYS.values())[0](self)


# ---- the director ----


@contextlib.contextmanager
def disk(folder):
    """Where the trace is written: a small file system, if one can be mounted; and what fills it."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        yield lambda full: None
        return

    def fill(full):
        ballast = folder / "ballast"
        if full:
            room = os.statvfs(folder)
            with contextlib.suppress(OSError):  # the stream was faster
                ballast.write_bytes(bytes(max(room.f_bavail * room.f_frsize - 4096, 0)))
        else:
            ballast.unlink(missing_ok=True)

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def start_actor(folder, rng, deadline):
    command = [sys.executable, __file__, "--actor", str(folder), str(rng.getrandbits(48)), repr(deadline)]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL)


def direct(folder, rng, seconds, fill):
    """Start actors, kill some, fill the disk. The actors that have not ended yet, or their children, are the last."""
    deadline = time.monotonic() + seconds
    actors, full_until = [], 0.0
    while time.monotonic() < deadline:
        actors = [actor for actor in actors if actor.poll() is None]
        while len(actors) < ACTORS:
            actors.append(start_actor(folder, rng, deadline))
        if rng.random() < 0.03:
            rng.choice(actors).kill()
        if rng.random() < 0.02 and not full_until:
            fill(True)
            full_until = time.monotonic() + rng.random()
        if full_until and time.monotonic() > full_until:
            fill(False)
            full_until = 0.0
        time.sleep(0.05)
    fill(False)
    return actors


def stage(folder, rng, seconds, fill):
    """All of it; what the stream said at its end."""
    channel = {"mode": "discard", "subbuf_size": 4096, "n_subbufs": 4}
    with ringbuf.Tracer("chaos", path=folder / "ring", **channel):
        command = [sys.executable, "-m", "ringbuf", "stream", folder / "ring", "-o", folder / "disk/trace", "--json"]
        stream = subprocess.Popen([str(part) for part in command], stdout=subprocess.PIPE, cwd="/")
        try:
            while not (folder / "disk/trace/metadata").exists():
                assert stream.poll() is None
                time.sleep(0.01)
            last = direct(folder, rng, seconds, fill)
        except BaseException:
            stream.kill()
            raise
    out, _ = stream.communicate(timeout=120)
    for actor in last:
        actor.wait()
    assert stream.returncode == 0, "the stream failed"
    (result,) = json.loads(out)["traces"]
    return result


def check(folder, result):
    """The log of the actors, the counters and the trace say the same."""
    accepted, open_bursts = set(), Counter()
    attempts = 0
    for line in (folder / "log").read_text().splitlines():
        entry = json.loads(line)
        if "n" in entry:
            attempts += entry["n"]
            open_bursts[entry["actor"], entry["first"]] = entry["n"]
        else:
            accepted |= {(entry["actor"], n) for n in entry["accepted"]}
            del open_bursts[entry["actor"], entry["first"]]
    unknown = sum(open_bursts.values())  # of bursts in which an actor was killed
    with ringbuf.open_trace(folder / "disk/trace") as trace:
        rows = trace.to_numpy("step")
    found = list(zip(rows["actor"].tolist(), rows["n"].tolist(), strict=True))
    printed = judge.text(folder / "disk/trace")
    assert len(set(found)) == len(found) == printed.stdout.count("\n") == result["records"]
    missing = sorted(accepted - set(found))
    assert not missing, (len(missing), missing[:3], result)
    assert all(any((actor, first + i) == one for (actor, first), n in open_bursts.items() for i in range(n))
               for one in set(found) - accepted)  # fmt: skip
    assert sum(map(int, re.findall(r"discarded (\d+) event", printed.stderr))) == result["lost"]
    assert result["unread"] == result["overwritten"] == result["elsewhere"] == 0
    told = result["records"] + result["lost"] + result["torn"]
    assert attempts - unknown <= told <= attempts, (attempts, unknown, result)
    return {"attempts": attempts, "unknown": unknown, **result}


def run(seconds, seed, folder):
    """A run in a new folder; what was counted. AssertionError: something was."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log").touch()
    with disk(folder / "disk") as fill:
        return check(folder, stage(folder, random.Random(seed), seconds, fill))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--actor", nargs=3, metavar=("FOLDER", "SEED", "DEADLINE"), help="be an actor")
    options = parser.parse_args()
    if options.actor:
        folder, seed, deadline = options.actor
        Actor(folder, int(seed), float(deadline)).act()
        return
    from seeds import SEED

    print(f"SEED={SEED}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="ringbuf-chaos-"))
    print(json.dumps(run(options.seconds, SEED, folder)))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
