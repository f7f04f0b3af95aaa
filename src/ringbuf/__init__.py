"""A lock-free ring buffer in shared memory, and the tracer built on it.

>>> import ringbuf
>>> tracer = ringbuf.Tracer("shop", mode="discard")
>>> checkout = tracer.event("checkout", order="u64", path="str", ms="f64")
>>> checkout(17, "/pay", 3.25)
True
"""

from .errors import (
    BufferFullError,
    ChannelDisabledError,
    EndOfStream,
    NestingError,
    ReaderBusyError,
    RecordTooLargeError,
    RegionBusyError,
    RegionError,
    RegionUnfinishedError,
    RingbufError,
    TooManyProducersError,
    TraceError,
)

try:
    from ._core import (
        Channel,
        Counter,
        Event,
        Gauge,
        Histogram,
        Packet,
        Reader,
        Reservation,
        Span,
        SpanType,
        Stream,
    )
except ImportError as error:
    if "interpreter" in str(error):
        raise ImportError(
            "ringbuf works in one interpreter of a process, and not in isolated ones: import it in the main "
            "interpreter (mod_wsgi: WSGIApplicationGroup %{GLOBAL}), or in a process of its own"
        ) from error
    if getattr(error, "name", None) != "ringbuf._core":
        raise
    raise ImportError("ringbuf is not built: run `make` in the source tree, or `pip install .`") from error

TYPE_CHECKING = False  # typing's own takes as long to import as all that is needed here
if TYPE_CHECKING:
    from .client import Client, CtfClient
    from .limits import Limits
    from .live.sharing import attach
    from .record.ends import finish
    from .record.logging_handler import LoggingHandler
    from .record.recorder import Recorder, snapshot
    from .record.recovery import Recovery, recover
    from .record.tracer import Tracer
    from .stats import Stats
    from .trace.scan import scan
    from .trace.trace import Trace, open_trace

__version__ = "0.1.0"

__all__ = [
    "BufferFullError",
    "Channel",
    "ChannelDisabledError",
    "Client",
    "Counter",
    "CtfClient",
    "EndOfStream",
    "Event",
    "Gauge",
    "Histogram",
    "Limits",
    "LoggingHandler",
    "NestingError",
    "Packet",
    "Reader",
    "ReaderBusyError",
    "RecordTooLargeError",
    "Recorder",
    "Recovery",
    "RegionBusyError",
    "RegionError",
    "RegionUnfinishedError",
    "Reservation",
    "RingbufError",
    "Span",
    "SpanType",
    "Stats",
    "Stream",
    "TooManyProducersError",
    "Trace",
    "TraceError",
    "Tracer",
    "attach",
    "finish",
    "get_include",
    "open_trace",
    "recover",
    "scan",
    "snapshot",
]

# Imported when they are first asked for: what runs in every recorded program, or records a little, needs few of them.
_MODULES = {
    "Client": "client",
    "CtfClient": "client",
    "Limits": "limits",
    "LoggingHandler": "record.logging_handler",
    "Recorder": "record.recorder",
    "Recovery": "record.recovery",
    "Stats": "stats",
    "Trace": "trace.trace",
    "Tracer": "record.tracer",
    "attach": "live.sharing",
    "finish": "record.ends",
    "open_trace": "trace.trace",
    "recover": "record.recovery",
    "scan": "trace.scan",
    "snapshot": "record.recorder",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def get_include() -> str:
    """The directory to compile with: ``#include <ringbuf/ringbuf.h>`` and ``cimport ringbuf.cringbuf``.

    Returns
    -------
    str
        The installed headers' folder, or the source tree's.
    """
    import os

    here = os.path.dirname(os.path.abspath(__file__))
    for folder in (os.path.join(here, "include"), os.path.join(here, "..", "..", "include")):
        if os.path.isfile(os.path.join(folder, "ringbuf", "ringbuf.h")):
            return os.path.normpath(folder)
    raise FileNotFoundError("the headers of ringbuf are not installed")


def load_ipython_extension(shell: object) -> None:
    """For ``%load_ext ringbuf``: the cell magic ``%%ringbuf``. docs/looking.md has it."""
    from .notebook import register

    register(shell)
