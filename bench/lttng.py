"""LTTng as a peer: a session daemon of our own, and programs traced by it.

As root the daemon would be the machine's own, so everything runs as the user nobody.
"""

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import peers
import pytest

NOBODY = 65534
PACKAGES = "lttng-tools liblttng-ust-dev"


def output(command, **options):
    """What a command prints."""
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    if done.returncode:
        raise RuntimeError(f"{command}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


class Home:
    """A directory with a session daemon in it. A context manager."""

    def __init__(self):
        self._daemon_path = peers.command("lttng-sessiond", PACKAGES)
        self._user = {}
        self.version = peers.debian_version("lttng-tools")

    def __enter__(self):
        self.path = Path(tempfile.mkdtemp(prefix="ringbuf-lttng-", dir="/dev/shm"))
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.path),
            "LTTNG_HOME": str(self.path),
            "LTTNG_UST_REGISTER_TIMEOUT": "10000",
            "LC_ALL": "C",
        }
        if os.geteuid() == 0:
            os.chown(self.path, NOBODY, NOBODY)
            self._user = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        self._daemon = subprocess.Popen([self._daemon_path, "--no-kernel", "--quiet"], **self._options())
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _options(self):
        return {"cwd": self.path, "env": self._environment, **self._user}

    def _wait(self):
        deadline = time.monotonic() + 30
        while subprocess.run(["lttng", "--no-sessiond", "list"], capture_output=True, **self._options()).returncode:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                pytest.skip("LTTng's session daemon does not start here")
            time.sleep(0.05)

    def __exit__(self, *exc):
        self._daemon.terminate()
        self._daemon.wait()
        shutil.rmtree(self.path, ignore_errors=True)

    def run(self, *command):
        return output([str(one) for one in command], **self._options())

    def install(self, source):
        """Copy a program to where nobody may run it."""
        target = self.path / Path(source).name
        shutil.copy(source, target)
        target.chmod(0o755)
        return target

    def trace(self, *command, event=("--userspace", "bench:*"), mode="--overwrite", subbuf_size="1M", keep=False):
        """Run a command under a session; what it prints. `keep`: the trace of an overwriting ring, in our directory."""
        kind = ["--snapshot"] if mode == "--overwrite" else [f"--output={self.path / 'trace'}"]
        self.run("lttng", "create", "bench", *kind)
        try:
            ring = f"--subbuf-size={subbuf_size}", "--num-subbuf=4"
            self.run("lttng", "enable-channel", "--userspace", mode, *ring, "channel")
            channel = ["--channel=channel"] if event[0] == "--userspace" else []
            self.run("lttng", "enable-event", *event, *channel)
            self.run("lttng", "start")
            printed = self.run(*command)
            self.run("lttng", "stop")
            if keep:
                self.run("lttng", "snapshot", "record")
        finally:
            self.run("lttng", "destroy", "bench")
        return printed
