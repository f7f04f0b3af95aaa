"""The libraries that people have, in one line each; a module for each, which imports it. docs/integrations.md.

import ringbuf.integrations.sqlalchemy
ringbuf.integrations.sqlalchemy.install(engine, tracer)
"""

from __future__ import annotations

__all__ = ["LINK_HEADER", "tracer_or_default", "use"]

#: Of HTTP requests and tasks: the span that they follow from, as digits.
LINK_HEADER = "x-ringbuf-link"

_tracer = None


def use(tracer) -> None:
    """The tracer for integrations that are not given one, such as a middleware that a settings file names."""
    global _tracer
    _tracer = tracer


def tracer_or_default(tracer=None):
    """`tracer`; or the one of `use`; or, if there is none, a flight recorder called ``app``."""
    global _tracer
    if tracer is not None:
        return tracer
    if _tracer is None:
        from ..record.tracer import Tracer

        _tracer = Tracer("app")
    return _tracer
