"""The recipes of docs/deploying.md: their files and commands, run as they stand."""

import contextlib
import http.client
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

from rings import eventually

import ringbuf

DOCUMENT = Path(__file__).parents[2] / "docs/deploying.md"
BIN = Path(sys.executable).parent  # where the commands of the packages are


def recipe(heading):
    """(text of shop.py, lines of the shell) of a section."""
    text = DOCUMENT.read_text()
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.M | re.S)[1]
    python = re.search(r"^```python\n# shop\.py\n(.*?)^```", section, re.M | re.S)[1]
    shell = re.search(r"^```sh\n(.*?)^```", section, re.M | re.S)[1]
    return python, shell.splitlines()


class Running:
    """A recipe that runs in a folder. A context manager, which ends with the stream."""

    def __init__(self, heading, folder, **environment):
        python, self._lines = recipe(heading)
        (folder / "shop.py").write_text(python)
        (folder / "flights").mkdir()
        self.folder = folder
        path = os.pathsep.join([str(BIN), os.environ["PATH"]])
        self._environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", **environment}
        self._processes = []

    def _start(self, line):
        command = shlex.split(line)
        log = open(self.folder / f"{command[0]}.log", "wb")  # noqa: SIM115 - the child's
        program = shutil.which(command[0], path=self._environment["PATH"])
        with log:
            process = subprocess.Popen(
                [program, *command[1:]], cwd=self.folder, env=self._environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process

    def __enter__(self):
        for line in self._lines:
            if line.startswith("export "):
                self._environment |= dict(one.split("=") for one in line.removeprefix("export ").split())
            elif line.endswith("&"):
                self.stream = self._start(line.removesuffix("&"))
                eventually((self.folder / "traces").exists)
            else:
                self.main = self._start(line)
        return self

    def log(self):
        return "".join(f"== {path.name}\n{path.read_text()}" for path in sorted(self.folder.glob("*.log")))

    def end(self, number=signal.SIGTERM):
        """Tell the server to end, and wait for it."""
        self.main.send_signal(number)
        self.wait()

    def wait(self):
        self.main.wait(60)

    def stop_stream(self):
        """What it has written: records of each trace."""
        eventually(lambda: not self._is_unread())
        self.stream.terminate()
        self.stream.wait(60)
        assert self.stream.returncode == 0, self.log()

    def _is_unread(self):
        """A file has appeared that the stream has not begun with."""
        names = [name.removesuffix(".ringbuf") for name in self.flights()]
        return [name for name in names if not (self.folder / "traces" / name / "metadata").exists()]

    def counts(self):
        """Records by name in all traces; none may be lost."""
        found = {}
        for path in (self.folder / "traces").iterdir():
            with ringbuf.open_trace(path) as trace:
                assert (trace.lost.events, trace.lost.packets) == (0, 0)
                for name, count in trace.count().items():
                    found[name] = found.get(name, 0) + count
        return found

    def flights(self):
        return sorted(name for name in os.listdir(self.folder / "flights") if name.endswith(".ringbuf"))

    def __exit__(self, *exc):
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def get(path, target="/"):
    """One request to a server at a socket of the file system; its status. None: there is no server yet."""
    try:
        connection = http.client.HTTPConnection("localhost", timeout=100)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", target, headers={"Connection": "close"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()
