"""Counters, gauges and histograms: what a channel has counted, and how others get to see it. docs/metrics.md."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .apps import asgi_app, wsgi_app
    from .exposition import exposition
    from .process import sample, watch_process
    from .reading import Metric, Series, read

__all__ = ["Metric", "Series", "asgi_app", "exposition", "read", "sample", "watch_process", "wsgi_app"]

# Imported when they are first asked for: whoever counts needs none of them.
_MODULES = {
    "Metric": "reading", "Series": "reading", "asgi_app": "apps", "exposition": "exposition", "read": "reading",
    "sample": "process", "watch_process": "process", "wsgi_app": "apps",
}  # fmt: skip


def __getattr__(name: str):
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    return value
