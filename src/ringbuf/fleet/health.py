"""Who is missing in a set of traces, who died, and whose record ends before the others'."""

from __future__ import annotations

import statistics

from ..trace.units import duration_text
from .manifest import Manifest, Member

__all__ = ["report", "set_lines"]

_LATE = 2_000_000_000  # ns before the others' end: who records at all notes that it is there every half second
_SHOWN = 20  # of each kind


def report(manifest: Manifest, trace=None) -> list[str]:
    """Lines for people, what is wrong first.

    Parameters
    ----------
    manifest : Manifest
    trace : Trace, optional
        The set, to look for the last spans in.
    """
    end = _usual_end(manifest)
    with_traces = [one for one in manifest.members if one.traces]
    groups = [
        (manifest.missing, lambda one: f"missing: {one.title}: {one.problem or 'nothing is known'}"),
        ([one for one in with_traces if one.state == "dead"], lambda one: _death(one, manifest, trace)),
        (
            [one for one in with_traces if one.state == "alive" and _behind(one, end) > _LATE],
            lambda one: _lateness(one, end, trace),
        ),
        ([one for one in with_traces if one.problem], lambda one: f"not whole: {one.title}: {one.problem}"),
    ]
    lines = [line for members, describe in groups for line in _some(members, describe)]
    return [*lines, _counts(manifest), _clock(manifest)]


def set_lines(trace) -> tuple[str, ...]:
    """`report` of a trace that is a set; nothing of another."""
    return () if trace.manifest is None else tuple(report(trace.manifest, trace))


def _some(members: list[Member], describe) -> list[str]:
    """The first ones: to describe one may take reading its trace."""
    rest = len(members) - _SHOWN
    return [*map(describe, members[:_SHOWN]), *([f"and {rest} more like that"] if rest > 0 else [])]


def _usual_end(manifest: Manifest) -> int:
    """When the records of those who live end: of half of them, later."""
    ends = [one.end for one in manifest.by_state("alive") if one.end is not None]
    return int(statistics.median_high(ends)) if ends else manifest.at


def _behind(member: Member, end: int) -> int:
    return 0 if member.end is None else end - member.end


def _death(member: Member, manifest: Manifest, trace) -> str:
    if member.end is None:
        return f"died: {member.title}, and has recorded nothing"
    when = duration_text(max(0, manifest.at - member.end))
    return f"died: {member.title}: {_last_span(member, trace)}{when} before the snapshot"


def _lateness(member: Member, end: int, trace) -> str:
    return f"{member.title}: {_last_span(member, trace)}{duration_text(_behind(member, end))} before the others' end"


def _last_span(member: Member, trace) -> str:
    """The one that was begun last, or of those that had not ended, if the set is there to look into."""
    if trace is None:
        return "last record "
    best, text = None, "last record "
    known = {directory for source in trace.sources for directory in source.directories}
    for one in member.traces:
        if one.directory not in known:  # the manifest says so, and may be anybody's
            continue
        with _opened(trace, one.directory) as part:
            newest = max((span for span in part.pairs() if span.name), key=_rank, default=None)
            if newest is not None and (best is None or _rank(newest) > best):
                best = _rank(newest)
                what = newest.fields.get("key") or f"{newest.name}()"
                text = f"last span {what}{', not ended' if newest.end_missing else ''}, "
    return text


def _rank(span) -> tuple:
    return bool(span.end_missing), span.begin


def _opened(trace, directory: str):
    from ..trace.trace import open_trace

    return open_trace(trace.sources[0].place.join(directory), errors="skip")


def _counts(manifest: Manifest) -> str:
    parts = [
        f"{len(manifest.by_state(state))} {state}" for state in ("alive", "dead", "ended") if manifest.by_state(state)
    ]
    n_traces = sum(len(one.traces) for one in manifest.members)
    missing = f", {len(manifest.missing)} missing" if manifest.missing else ""
    why = f"; made because {manifest.reason}" if manifest.reason else ""
    return f"{len(manifest.members)} members: {', '.join(parts) or 'none'}{missing}; {n_traces} traces{why}"


def _clock(manifest: Manifest) -> str:
    known = [one.uncertainty_ns for member in manifest.members for one in member.traces if one.uncertainty_ns >= 0]
    unknown = sum(one.uncertainty_ns < 0 for member in manifest.members for one in member.traces)
    text = f"clock: {manifest.reference}; all within {duration_text(max(known, default=0))} of it"
    return f"{text}, but {unknown} traces by a clock that nobody could measure" if unknown else text
