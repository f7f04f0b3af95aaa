"""What a recorded program has to tell its recorder: which process is not recorded, and why.

By datagrams to an abstract address, which needs no file, no descriptor that is kept and no permission: also a process
that has given its rights away can tell.
"""

import os
import sys

__all__ = ["NOTES", "tell"]

NOTES = "RINGBUF_NOTES"  # the address, without its leading NUL
_LONG = 300  # characters of each text


def tell(why: str, *, pid: int | None = None, program: str | None = None) -> None:
    """Say that a process, by default this one, is not recorded, or no longer. Raises nothing."""
    address = os.environ.get(NOTES)
    if not address:
        return
    texts = (str(os.getpid() if pid is None else pid), _program() if program is None else program, why)
    data = "\0".join(text[:_LONG].replace("\0", " ") for text in texts).encode("utf-8", "backslashreplace")
    try:
        import _socket  # not socket, of which the program may have one of its own

        sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    except (ImportError, OSError):
        return
    try:
        sender.settimeout(0.2)  # the queue is short
        sender.sendto(data, b"\0" + address.encode())
    except OSError:
        pass  # the recorder is gone
    finally:
        sender.close()


def _program() -> str:
    return " ".join(getattr(sys, "orig_argv", sys.argv)[:3])
