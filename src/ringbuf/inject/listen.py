"""``RINGBUF_LISTEN=1 python app.py``: a process that `ringbuf attach` can ask to record, without ptrace.

A thread waits at a socket in a directory of the user's own: DIR/PID.listen. Only this user, and root, are
answered. Forked children listen too.
"""

import _thread
import os
import sys

from .attached import answer

__all__ = ["LISTEN", "directory", "path_of", "start"]

LISTEN = "RINGBUF_LISTEN"  # 1, or the directory of the sockets
_LONG = 1 << 16  # bytes of a request
_ENDING = ".listen"


def directory(text: str) -> str:
    """Where the sockets are, as the variable says."""
    from ..record.automatic import default_directory

    return default_directory() if text in ("", "1") else text


def path_of(folder: str, pid: int) -> str:
    """Of the socket of a process."""
    return os.path.join(folder, f"{pid}{_ENDING}")


def start(text: str) -> None:
    """Listen from now on. OSError: there can be no socket."""
    folder = os.path.abspath(directory(text))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    status = os.stat(folder)
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & 0o022:
        raise PermissionError(f"{folder} is somebody else's, or everybody may write in it")
    for name in os.listdir(folder):
        if name.endswith(_ENDING) and not os.path.exists(f"/proc/{name.removesuffix(_ENDING)}"):
            _forget(os.path.join(folder, name))  # of one that was killed
    _listen(folder)
    os.register_at_fork(after_in_child=lambda: _listen_again(folder))


def _listen_again(folder: str) -> None:
    try:
        _listen(folder)
    except OSError:
        pass  # as a child that has given its rights away: it cannot be attached to


def _listen(folder: str) -> None:
    import _socket  # not socket, of which the program may have one of its own

    path = path_of(folder, os.getpid())
    one = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    _forget(path)  # of a process that had our number
    before = os.umask(0o077)
    try:
        one.bind(path)
    finally:
        os.umask(before)
    one.listen(4)
    _thread.start_new_thread(_serve, (one, os.getpid()))
    _remove_at_exit(path)


def _remove_at_exit(path: str) -> None:
    from ..record.ends import AtEnd

    AtEnd(lambda _well: _forget(path))


def _forget(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass


def _serve(listening, pid: int) -> None:
    while True:
        try:
            fd, _ = listening._accept()
        except OSError:
            return
        if os.getpid() != pid or sys.is_finalizing():
            return
        try:
            _answer_one(fd, listening)
        except OSError:
            pass  # who has asked is gone


def _answer_one(fd: int, listening) -> None:
    import _socket

    one = _socket.socket(fileno=fd)
    try:
        one.settimeout(5.0)
        peer = one.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 12)
        uid = int.from_bytes(peer[4:8], sys.byteorder)
        if uid not in (0, os.getuid()):
            return
        text = b""
        while not text.endswith(b"\0") and len(text) < _LONG:
            more = one.recv(_LONG)
            if not more:
                return
            text += more
        reply = answer(text[:-1].decode("utf-8", "surrogateescape"))
        one.sendall(reply.encode("utf-8", "surrogateescape"))
    finally:
        one.close()
