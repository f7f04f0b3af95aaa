"""A trace as one page: a file that opens offline in any browser, of some megabytes whatever the trace.

    trace.report("report.html")

One pass over the trace (`collect`) keeps what is worth to be kept one by one (`keep`), and counts the rest by lane
and time (`_decode.Levels`). `columns` makes bytes of that, `page` the file, of what stands in the folder page/.
Nothing that a trace says becomes HTML: it is in the compressed data, and the page sets texts, no markup.
"""

from __future__ import annotations

import os

from ..output import directory_of

__all__ = ["rendered", "write"]


def rendered(trace, **wanted) -> str:
    """The page, as a text.

    Parameters
    ----------
    trace : Trace
    **wanted
        Which part of it, as for `Trace.report`.
    """
    from .collect import collected
    from .page import assembled

    return assembled(collected(trace, **wanted))


def write(trace, path, **wanted) -> None:
    """See `Trace.report`."""
    path = os.fsdecode(path)
    folder = os.path.dirname(path) or os.curdir
    if trace.sources[0].place.is_at(folder):
        raise ValueError(f"{path}: every file in the directory of a trace is a stream of it: write to another")
    with directory_of(path) as output, output.replacing(os.path.basename(path)) as draft:
        draft.write(rendered(trace, **wanted).encode("ascii"))
