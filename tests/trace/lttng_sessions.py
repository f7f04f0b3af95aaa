"""Sessions of LTTng-UST, recorded anew: a session daemon of our own, and programs that it traces.

As root the daemon would be the machine's own, so everything runs as the user nobody.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SOURCES = Path(__file__).parent
NOBODY = 65534
CONTEXTS = ("vpid", "vtid", "procname", "pthread_id", "ip", "pid_ns", "vuid")
COUNT = 200


class Daemon:
    """A session daemon with a home of its own, and the program `lttng_app`. A context manager."""

    def __init__(self, prefix=()):
        self._prefix = list(prefix)  # of commands, such as a chroot
        self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="ringbuf-lttng-"))
        self._environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.path),
            "LTTNG_HOME": str(self.path),
            "LTTNG_UST_REGISTER_TIMEOUT": "60000",
            "LC_ALL": "C",
        }
        self.program = self.path / "lttng_app"
        sources = ["-I", SOURCES, SOURCES / "lttng_app.c"]
        subprocess.run(["cc", "-w", *sources, "-o", self.program, "-llttng-ust", "-ldl"], check=True)
        if self._user:
            os.chown(self.path, NOBODY, NOBODY)
        self.path.chmod(0o755)
        command = ["lttng-sessiond", "--no-kernel", "--quiet"]
        self._daemon = subprocess.Popen(command, stderr=subprocess.DEVNULL, **self._options())
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _options(self):
        return {"cwd": self.path, "env": self._environment, **self._user}

    def _wait(self):
        deadline = time.monotonic() + 120
        while self.lttng("--no-sessiond", "list", check=False).returncode:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the session daemon does not start")
            time.sleep(0.1)

    def __exit__(self, *exc):
        self._daemon.terminate()
        self._daemon.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def lttng(self, *command, check=True):
        done = subprocess.run(["lttng", *command], capture_output=True, text=True, check=False, **self._options())
        if check and done.returncode:
            raise RuntimeError(f"lttng {' '.join(command)}: {done.stdout}{done.stderr}")
        return done

    def run(self, count=COUNT):
        subprocess.run([self.program, str(count)], check=True, **self._options())

    def record(self, name, buffers="uid", mode="discard", contexts=(), how="plain"):
        """Record a session of two programs; where it is. `how`: "plain", "rotated", "snapshots" or "small"."""
        output = self.path / name
        kind = ["--snapshot"] if how == "snapshots" else []
        self.lttng("create", name, f"--output={output}", *kind)
        # A place too small for all: with "small", records are lost, or overwritten.
        size = ["--subbuf-size=4k", "--num-subbuf=2"] if how == "small" else []
        try:
            self.lttng("enable-channel", "--userspace", f"--buffers-{buffers}", f"--{mode}", *size, "channel")
            self.lttng("enable-event", "--userspace", "app:*", "--channel=channel")
            if contexts:
                types = [f"--type={one}" for one in contexts]
                self.lttng("add-context", "--userspace", "--channel=channel", *types)
            self.lttng("start")
            self.run()
            self._between(how, name)
            self.run(5000 if how == "small" else COUNT)
            if how == "snapshots":
                self.lttng("snapshot", "record")
            self.lttng("stop")
        finally:
            self.lttng("destroy", name)
        return output

    def _between(self, how, name):
        if how == "rotated":
            self.lttng("rotate", name)
        elif how == "snapshots":
            self.lttng("snapshot", "record")


#: (buffers, mode, contexts, how) that differ in what is written.
SCHEMES = (
    ("uid", "discard", (), "plain"),
    ("pid", "discard", (), "plain"),
    ("uid", "discard", CONTEXTS, "rotated"),
    ("pid", "discard", ("vtid",), "rotated"),
    ("uid", "overwrite", CONTEXTS, "snapshots"),
    ("pid", "overwrite", ("procname", "ip"), "plain"),
    ("uid", "discard", ("vpid",), "small"),
    ("uid", "overwrite", ("vpid",), "small"),
)


def main(target):
    """Record one of each into a directory."""
    with Daemon() as daemon:
        for buffers, mode, contexts, how in SCHEMES:
            name = f"{buffers}-{mode}-{len(contexts)}-{how}"
            shutil.copytree(daemon.record(name, buffers, mode, contexts, how), Path(target) / name)


if __name__ == "__main__":
    main(sys.argv[1])
