"""What `Tracer.watch` and RINGBUF_WATCH take as texts: triggers, rates, sizes, durations."""

import _signal  # type: ignore[import-not-found]  # what `signal` is made from, built in

__all__ = ["KINDS", "Limit", "Trigger", "rate_of", "seconds_of", "size_of", "split", "triggers_of"]

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0, "d": 86400.0}
_SIZES = {"": 0, "k": 10, "m": 20, "g": 30}
_LEVELS = {"DEBUG": 10, "INFO": 20, "WARNING": 30, "ERROR": 40, "CRITICAL": 50}
_FOREVER = 1e9


class Trigger:
    """What is waited for: its kind, its value, and how it was written."""

    __slots__ = ("kind", "text", "value")

    def __init__(self, kind: str, value, text: str) -> None:
        self.kind, self.value, self.text = kind, value, text

    def __repr__(self) -> str:
        return f"<Trigger {self.text}>"


class Limit:
    """How long spans, and calls, whose names match a pattern may take: so long, or so many times a quantile of those
    before. Without a pattern it is for all spans, and for no calls: the outermost take as long as the program."""

    __slots__ = ("factor", "is_of_calls", "ns", "pattern", "quantile")

    def __init__(self, pattern: str, seconds: float, factor: float, quantile: float) -> None:
        self.is_of_calls = bool(pattern)
        self.ns, self.factor, self.quantile = round(seconds * 1e9), factor, quantile
        self.pattern = pattern or "*"

    def as_rule(self) -> tuple:
        """As `Durations` takes it."""
        return self.ns, self.factor, self.quantile


def seconds_of(text, what: str) -> float:
    """A duration: seconds, as a number or a text such as ``0.3``, ``300ms``, ``5min``."""
    number, factor = text, 1.0
    if isinstance(text, str):
        digits = text.strip().rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = text.strip()[len(digits) :]
        number, factor = digits, _UNITS.get(unit, 0.0) if unit else 1.0
    try:
        seconds = float(number) * factor
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < _FOREVER:
        raise ValueError(f"{what}: {text!r} is no duration; 0.5, 300ms and 5min are")
    return seconds


def rate_of(text) -> "tuple[int, float]":
    """How many in how many seconds: ``1/min``, ``3/10min``, ``20/h``."""
    count, _, period = str(text).partition("/")
    period = period.strip()
    try:
        number = int(count)
        seconds = seconds_of(period if period[:1].isdigit() else f"1{period}", "at_most") if period else 0.0
    except ValueError:
        number, seconds = 0, 0.0
    if number < 1 or not seconds:
        raise ValueError(f"at_most: {text!r} is no rate; 1/min, 3/10min and 20/h are")
    return number, seconds


def size_of(text, what: str) -> int:
    """Bytes: a number, or a text such as ``500M``: K, M, G are 1024 and its powers."""
    digits = str(text).strip().lower().removesuffix("b").removesuffix("i")
    unit = digits[-1:] if digits[-1:].isalpha() else ""
    number = digits.removesuffix(unit)
    if unit not in _SIZES or not number.isdecimal() or not int(number):
        raise ValueError(f"{what}: {text!r} is no size; 500M is one")
    return int(number) << _SIZES[unit]


def split(text: str) -> "list[str]":
    """The parts of a text with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def triggers_of(on) -> "list[Trigger]":
    """From what a user wrote: one text with commas, or several texts. None: who watches calls `Watch.fire` himself.

    Raises
    ------
    ValueError
        No trigger, an unknown one, or one whose value is none.
    """
    if on is None:
        return []
    parts = split(on) if isinstance(on, str) else [one for each in on for one in split(each)]
    if not parts:
        raise ValueError(f"on: no trigger; there are {', '.join(KINDS)}")
    return [_trigger(part) for part in parts]


def _trigger(text: str) -> Trigger:
    kind, sign, value = text.partition("=")
    kind, value = kind.strip(), value.strip()
    if kind not in KINDS:
        raise ValueError(f"on: {text!r} is no trigger; there are {', '.join(KINDS)}")
    default, parse = KINDS[kind]
    if not sign:
        value = default
    if parse is None and sign:
        raise ValueError(f"on: {kind} takes no value, and has {value!r}")
    if parse is not None and not value:
        raise ValueError(f"on: {kind} needs a value: {_EXAMPLES[kind]}")
    return Trigger(kind, None if parse is None else parse(value), text)


def _signal_number(value: str) -> int:
    name = value.upper().removeprefix("SIG")
    number = int(value) if value.isdecimal() else getattr(_signal, f"SIG{name}", 0)
    if not 0 < number < _signal.NSIG or not isinstance(number, int) or name.startswith("_"):
        raise ValueError(f"signal: there is no signal {value!r}; USR2 is one")
    if number in _NEVER:
        raise ValueError(f"signal: {value} cannot be a trigger: it kills or stops, or is the interpreter's own affair")
    return int(number)


_NEVER = {
    int(getattr(_signal, f"SIG{name}", 0))
    for name in ("KILL", "STOP", "SEGV", "BUS", "FPE", "ILL", "ABRT", "CHLD", "CONT", "PIPE", "TSTP", "TTIN", "TTOU")
}


def _limit(value: str) -> Limit:
    pattern, colon, amount = value.rpartition(":")
    if colon and not pattern:
        raise ValueError(f"over: there is no name before the colon in {value!r}")
    if amount.startswith("p"):
        quantile, _, factor = amount[1:].partition("*")
        try:
            share, times = float(quantile) / 100, float(factor or 1)
        except ValueError:
            share = times = 0.0
        if not (0 < share < 1 and 0 < times < _FOREVER):
            raise ValueError(f"over: {amount!r} is no multiple of a quantile; p99*3 is one")
        return Limit(pattern, 0.0, times, share)
    return Limit(pattern, seconds_of(amount, "over"), 0.0, 0.0)


def _level(value: str) -> int:
    level = int(value) if value.isdecimal() else _LEVELS.get(value.upper(), 0)
    if not 0 < level < 1 << 31:
        raise ValueError(f"log: {value!r} is no level; ERROR and 40 are")
    return level


def _duration(what: str):
    return lambda value: seconds_of(value, what)


#: Each kind of trigger: its value where none is given ("" must be given), and what reads it (None: there is none).
KINDS = {
    "exception": ("", None),
    "signal": ("", _signal_number),
    "over": ("", _limit),
    "log": ("ERROR", _level),
    "loop": ("1", _duration("loop")),
    "main": ("5", _duration("main")),
    "heartbeat": ("", _duration("heartbeat")),
    "loss": ("", None),
    "memory": ("", lambda value: size_of(value, "memory")),
}

_EXAMPLES = {
    "signal": "signal=USR2", "over": "over=0.3, over=db:0.3, over=p99*3", "heartbeat": "heartbeat=10",
    "memory": "memory=2G", "log": "log=ERROR", "loop": "loop=0.5", "main": "main=5",
}  # fmt: skip
