"""Records of `logging` in a program as it is: described without running any of its code."""

from ..record.later import when_imported
from ..record.log_event import LOG_FIELDS
from ..record.taps import tapped
from ..texts import encodable
from .audit import describe

__all__ = ["formed", "record_logging"]

_PLAIN = (str, bytes, int, float, complex, bool, type(None))
_MANY = 100  # elements of a container that is looked into
_DEPTH = 3
_FRAMES = 100  # of a traceback, the innermost


def record_logging(sink):
    """Record what loggers pass on to their handlers, from now on; what ends that.

    Not by a handler of the root logger: `logging.basicConfig` would find the root configured, and do
    nothing; `logging.config` would remove it; and what does not propagate would not get there.
    """
    event = sink.event("log", **LOG_FIELDS)
    undo: list = []

    def begin(logging) -> None:
        try:
            tap = _Log(event, logging.LogRecord)
            undo.append(tapped(logging.Logger, "callHandlers", tap.before, tap.after))
        except AttributeError:
            pass  # a module of the program's own that has this name

    def end() -> None:
        for one in undo:
            one()

    when_imported("logging", begin)
    return end


class _Log:
    """A record is described before the handlers have it, where forming its text runs no code of the program. Where it
    would, the handlers go first, and what they formed is taken, if any did: nothing is formed twice, or in vain."""

    def __init__(self, event, kind: type) -> None:
        self._event, self._kind = event, kind

    def before(self, logger, record) -> bool:
        """Record it; True: later."""
        about = record.__dict__
        if type(record).getMessage is not self._kind.getMessage or about.get("exc_info"):
            return True
        message, args = about.get("msg"), about.get("args")
        if type(message) is not str or not _is_plain(args, 0):
            return True
        if args:
            try:
                message = message % args
            except Exception:
                message = _described(message, args)
        self._record(about, message)
        return False

    def after(self, logger, record) -> bool:
        """Record what the handlers left."""
        about = record.__dict__
        message = about.get("message")
        if type(message) is not str:
            message = formed(about.get("msg"), about.get("args"))
        self._record(about, message)
        return True

    def _record(self, about: dict, message: str) -> None:
        level, line = about.get("levelno"), about.get("lineno")
        self._event(
            level if type(level) is int and abs(level) < 1 << 31 else 0,
            _text(about.get("name")),
            encodable(message),
            _text(about.get("pathname")),
            line if type(line) is int and 0 <= line < 1 << 32 else 0,
            _text(about.get("funcName")),
            _exception(about),
        )


def _text(value) -> str:
    return encodable(value) if type(value) is str else ""


def _is_plain(value, depth: int) -> bool:
    """Does no code of the program run when it becomes text?"""
    kind = type(value)
    if kind in _PLAIN:
        return True
    if depth == _DEPTH or kind not in (tuple, list, dict) or len(value) > _MANY:
        return False
    if kind is dict:
        return all(_is_plain(key, depth + 1) and _is_plain(one, depth + 1) for key, one in value.items())
    return all(_is_plain(one, depth + 1) for one in value)


def formed(message, args) -> str:
    """What can be said of a record that no handler has formed."""
    if type(message) is not str:
        message = describe((message,))
    elif args and _is_plain(args, 0):
        try:
            return message % args
        except Exception:
            pass
    return _described(message, args) if args else message


def _described(message: str, args) -> str:
    if type(args) is dict:
        args = tuple(args.items())
    return f"{message} ({describe(args if type(args) is tuple else (args,))})"


def _exception(about: dict) -> str:
    """As a handler has formed it; else from what the interpreter knows."""
    text, info, stack = about.get("exc_text"), about.get("exc_info"), about.get("stack_info")
    if type(text) is not str:
        text = _traceback(*info) if type(info) is tuple and len(info) == 3 and info[0] is not None else ""
    return encodable("\n".join(filter(None, (text, stack if type(stack) is str else ""))))


def _traceback(kind, error, traceback) -> str:
    frames = []
    while traceback is not None:
        code = traceback.tb_frame.f_code
        frames.append(f'  File "{code.co_filename}", line {traceback.tb_lineno}, in {code.co_name}')
        traceback = traceback.tb_next
    begin = ["Traceback (most recent call last):"] * bool(frames)
    args = describe(BaseException.args.__get__(error)) if isinstance(error, BaseException) else ""
    return "\n".join([*begin, *frames[-_FRAMES:], f"{kind.__qualname__}: {args}" if args else kind.__qualname__])
