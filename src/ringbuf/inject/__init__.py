"""Recording in programs that were not written for it: what `ringbuf record` makes them do.

`environment` says what the program is to record. A Python that starts with that environment, be it
the program or a descendant, imports site/sitecustomize.py, which calls `start`. Forked children go
on by themselves. A Python that ignores its environment (-I, -E) or has no site (-S) is left alone.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import sys
from pathlib import Path

from ..record.functions import Functions
from ..record.logging_handler import LoggingHandler
from ..record.tracer import Tracer
from .audit import record_audit

__all__ = ["CHANNEL", "environment", "start"]

CHANNEL = "RINGBUF_CHANNEL"  # path of the channel to record into
_WHAT = "RINGBUF_INJECT"  # what to record, as JSON
_SITE = Path(__file__).with_name("site")


def environment(channel: str, what: dict) -> dict[str, str]:
    """The environment of a program that is to record into a channel.

    Parameters
    ----------
    channel : str
        Its path.
    what : dict
        ``functions``: None, or a dict of `include` and `exclude`; ``logging``, ``audit``: bool.
    """
    added = {CHANNEL: channel}
    if any(value or value == {} for value in what.values()):
        folders = [str(_SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
        added |= {_WHAT: json.dumps(what), "PYTHONPATH": os.pathsep.join(folders)}
    return os.environ | added


def start() -> None:
    """Record what the environment says, from now on. A program does not fail of it: what is wrong is printed."""
    try:
        what = json.loads(os.environ[_WHAT])
        tracer = Tracer.attach(os.environ[CHANNEL])
        if what["logging"]:
            _record_logging(tracer)
        if what["audit"]:
            record_audit(tracer)
        if what["functions"] is not None:
            Functions(tracer, **what["functions"]).start()
    except FileNotFoundError:
        pass  # the recording has ended
    except Exception as error:
        print(f"ringbuf: {' '.join(sys.argv[:1])} is not recorded: {error}", file=sys.stderr)


def _record_logging(tracer: Tracer) -> None:
    """Record what loggers pass on to their handlers.

    Not by a handler of the root logger: `logging.basicConfig` would find the root configured, and do
    nothing; `logging.config` would remove it; and what does not propagate would not get there.
    """
    handler = LoggingHandler(tracer)
    call_handlers = logging.Logger.callHandlers

    @functools.wraps(call_handlers)
    def record_and_call_handlers(self, record):
        handler.handle(record)
        call_handlers(self, record)

    logging.Logger.callHandlers = record_and_call_handlers
