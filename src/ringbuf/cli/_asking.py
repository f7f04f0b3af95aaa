"""Asking a process that runs to record: by its socket (inject/listen.py), or by `sys.remote_exec`."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import tempfile
import time
from pathlib import Path

from ..errors import RingbufError
from ..inject import REQUEST, listen

__all__ = ["Refused", "ask"]

_PATIENCE = 10.0  # seconds for an answer
_PACKAGES = str(Path(__file__).parents[2])  # the folder that has our package

# One statement, so that no name is left in the program. Its own ringbuf, or else ours.
_SCRIPT = """exec({text!r}, {{"__name__": {name!r}}})"""
_TEXT = """
def ask():
    import sys
    try:
        from ringbuf.inject.attached import answer_file
    except ImportError:
        sys.path.append({packages!r})
        try:
            from ringbuf.inject.attached import answer_file
        except Exception as error:
            with open({reply!r}, "x") as file:
                file.write("error\\nit cannot import ringbuf, not even ours: " + repr(error))
            return
        finally:
            sys.path.remove({packages!r})
    answer_file({request!r}, {reply!r})
ask()
"""


class Refused(RingbufError):
    """The process may not, or cannot, be asked; or it says no."""


def ask(pid: int, folder: str, request: str) -> str:
    """What the process answers.

    Parameters
    ----------
    pid : int
    folder : str
        Where files of the request may be left; the process must be able to read it.
    request : str
        As inject/attached.py takes it.

    Raises
    ------
    Refused
        With the reason, and what to do.
    """
    if not os.path.exists(f"/proc/{pid}"):
        raise Refused(f"there is no process {pid}")
    answer = _by_socket(pid, request)
    if answer is None:
        answer = _by_remote_exec(pid, folder, request)
    kind, _, text = answer.partition("\n")
    if kind != "ok":
        raise Refused(f"process {pid}: {text}")
    return text


# ---- by a socket ----


def _by_socket(pid: int, request: str) -> str | None:
    """None: it does not listen."""
    folder = listen.directory(_variable_of(pid) or os.environ.get(listen.LISTEN, ""))
    path = listen.path_of(folder, _pid_of_its_own(pid))
    if not os.path.exists(path):
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(_PATIENCE)
        try:
            one.connect(path)
            one.sendall(request.encode("utf-8", "surrogateescape") + b"\0")
            data = b""
            while more := one.recv(1 << 16):
                data += more
        except ConnectionRefusedError:
            return None  # left by one that had the number
        except (TimeoutError, ConnectionError):
            raise Refused(f"process {pid} listens, and does not answer") from None
        except PermissionError:
            raise Refused(f"{path} is somebody else's: only its user, and root, may attach") from None
    if not data:
        raise Refused(f"process {pid} does not answer this user")
    return data.decode("utf-8", "surrogateescape")


def _variable_of(pid: int) -> str:
    """RINGBUF_LISTEN, as it was started."""
    with contextlib.suppress(OSError):
        for one in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            name, _, value = one.partition(b"=")
            if name == listen.LISTEN.encode():
                return os.fsdecode(value)
    return ""


def _pid_of_its_own(pid: int) -> int:
    """Its number in its innermost PID namespace, as it names its socket."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
            if line.startswith("NSpid:"):
                return int(line.split()[-1])
    return pid


# ---- by sys.remote_exec ----


def _by_remote_exec(pid: int, folder: str, request: str) -> str:
    remote = getattr(sys, "remote_exec", None)
    theirs, ours = _version_of(pid), "{}.{}".format(*sys.version_info)
    what = f"CPython {theirs}" if theirs else "no CPython that can be told"
    wrong = (
        f"process {pid} is {what}, and this is {ours}: from outside, a Python 3.14 or later is attached to by "
        f"the same version; start older ones with {listen.LISTEN}=1 in the environment"
    )
    if remote is None or theirs not in (None, ours):
        raise Refused(wrong)
    place = tempfile.mkdtemp(dir=folder)
    script, asked, reply = (os.path.join(place, name) for name in (REQUEST, "request", "reply"))
    Path(asked).write_text(request, errors="surrogateescape")
    text = _TEXT.format(packages=_PACKAGES, request=asked, reply=reply)
    Path(script).write_text(_SCRIPT.format(text=text, name=REQUEST))
    _give_away(pid, folder, place, asked, script)
    try:
        remote(pid, script)
    except PermissionError:
        raise Refused(_why_not_permitted(pid)) from None
    except (OSError, RuntimeError) as error:
        raise Refused(wrong if theirs is None else f"process {pid}: sys.remote_exec: {error}") from None
    return _wait_for(pid, reply, script)


def _wait_for(pid: int, reply: str, script: str) -> str:
    deadline = time.monotonic() + _PATIENCE
    while not os.path.exists(reply):
        if not os.path.exists(f"/proc/{pid}"):
            raise Refused(f"process {pid} has ended")
        if time.monotonic() > deadline:
            Path(script).write_text("")  # when it comes to it, there is nothing to be done
            raise Refused(
                f"process {pid}: its main thread has run no Python for {_PATIENCE:g} s (it waits, or is in C code): "
                f"try again, or start it with {listen.LISTEN}=1 in the environment"
            )
        time.sleep(0.01)
    time.sleep(0.001)
    return Path(reply).read_text(errors="surrogateescape")


def _give_away(pid: int, *paths: str) -> None:
    """Root attaches to somebody's process, which is to read the files."""
    status = os.stat(f"/proc/{pid}")
    if os.geteuid() == 0 and status.st_uid != 0:
        for path in paths:
            os.chown(path, status.st_uid, status.st_gid)


def _version_of(pid: int) -> str | None:
    """``3.14``, by the library or the name of what it runs; None: it cannot be told."""
    import re

    try:
        found = [os.readlink(f"/proc/{pid}/exe")]
        with open(f"/proc/{pid}/maps") as lines:
            found += [line.split(None, 5)[-1].strip() for line in lines if "python" in line]
    except OSError:
        return None
    for path in sorted(set(found), key=lambda path: "libpython" not in path):
        match = re.search(r"python(3\.\d+)t?(?:\.so|$|/lib-dynload|/)", path)
        if match:
            return match[1]
    return None


def _why_not_permitted(pid: int) -> str:
    """The kernel's rules for ptrace, as they are here."""
    theirs = os.stat(f"/proc/{pid}").st_uid
    if os.geteuid() not in (0, theirs):
        return f"process {pid} is of another user ({theirs}): attach as that user, or as root"
    scope = "0"
    with contextlib.suppress(OSError):
        scope = Path("/proc/sys/kernel/yama/ptrace_scope").read_text().strip()
    if scope == "1" and os.geteuid() != 0:
        return (
            f"process {pid} may not be attached to: kernel.yama.ptrace_scope is 1, so only its parent may. As root, or "
            f"after sysctl kernel.yama.ptrace_scope=0; or start it with {listen.LISTEN}=1 in the environment, which "
            "needs no ptrace"
        )
    more = {
        "2": " (kernel.yama.ptrace_scope is 2: only with CAP_SYS_PTRACE)",
        "3": " (kernel.yama.ptrace_scope is 3: nobody)",
    }
    return (
        f"process {pid} may not be attached to{more.get(scope, '')}: the kernel's ptrace rules, a container without "
        f"SYS_PTRACE, or seccomp forbid it. Start it with {listen.LISTEN}=1 in the environment, which needs no ptrace"
    )
