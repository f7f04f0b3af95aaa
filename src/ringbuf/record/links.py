"""What follows from what, where neither is within the other: work that was put into a queue, a pool, a socket."""

from __future__ import annotations

from .._core import current_span

__all__ = ["Linked", "follow", "link_of"]

_IDS = 1 << 64


def link_of(value) -> int:
    """The span that a link names: an int, or its digits, as a header has them. 0: it is none."""
    if isinstance(value, (str, bytes)):
        digits = value.decode("ascii", "replace") if isinstance(value, bytes) else value
        value = int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 20 else 0
    if not isinstance(value, int):
        raise TypeError(f"a link is what span.link() gives, or its digits, not {type(value).__name__}")
    return value if 0 < value < _IDS else 0


def follow(tracer, link) -> bool:
    """See `Tracer.follow`."""
    source, target = link_of(link), current_span()
    if not source or not target or source == target:
        return False
    return tracer.event("span_link", span_id="u64", link="u64")(target, source)


class Linked:
    """See `Tracer.linked`. Pickles, if the function does."""

    def __init__(self, tracer, function, name: str, link: int) -> None:
        self._tracer, self._function, self._name, self._link = tracer, function, name, link

    def __call__(self, *args, **named):
        with self._tracer.span(self._name):
            self._tracer.follow(self._link)
            return self._function(*args, **named)

    def __repr__(self) -> str:
        return f"<ringbuf.record.links.Linked {self._function!r}>"
