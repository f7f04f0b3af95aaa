"""What a set of traces is: who was asked, who has answered what, and on which clock.

The file ``manifest.json`` stands in the directory, or at the URL, that has a directory for each trace.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields

from ..errors import TraceError

__all__ = ["NAME", "Gathered", "Manifest", "Member", "read_manifest"]

NAME = "manifest.json"
_FORMAT = "ringbuf trace set"
_VERSION = 1
_LARGEST = 256 << 20  # bytes: of a hundred thousand members

#: What a member can be.
STATES = ("alive", "dead", "ended", "missing")


@dataclass
class Gathered:
    """A trace of a member.

    Parameters
    ----------
    directory : str
        In the set.
    begin, end : int or None
        Of its packets, nanoseconds since the Unix epoch by the set's clock; None: it has none.
    records, packets, bytes : int
    recovered : bool
        From what its dead process has left.
    open_records : int
        Of these, it died in the middle.
    uncertainty_ns : int
        Its times are not further from the set's clock; -1: nobody knows, it is by its own machine's wall clock.
    offset_ns : int
        What the set's clock was ahead of its machine's CLOCK_MONOTONIC.
    drift_ppb : int
        By how many parts of 10^9 the set's clock ran faster.
    round_trip_ns, samples : int
        Of the questions that this rests on; 0 of them: the clocks are one.
    last_record : int or None
        When the newest record was made: packets may end later.
    """

    directory: str
    begin: int | None = None
    end: int | None = None
    records: int = 0
    packets: int = 0
    bytes: int = 0
    recovered: bool = False
    open_records: int = 0
    uncertainty_ns: int = -1
    offset_ns: int = 0
    drift_ppb: int = 0
    round_trip_ns: int = 0
    samples: int = 0
    last_record: int | None = None


@dataclass
class Member:
    """Who was asked for a trace.

    Parameters
    ----------
    name : str
        As the engine calls it: of Dask, the address.
    label : str
        As people do; empty: the same.
    role : str
        "worker", "scheduler", "agent", "actor", ...
    host : str
    pid : int
        0: not known.
    state : {"alive", "dead", "ended", "missing"}
        "ended": well, as Ray ends workers that have nothing to do.
    problem : str
        Why there is no trace, or not all of it; empty: nothing is wrong.
    traces : list of Gathered
    """

    name: str
    label: str = ""
    role: str = "worker"
    host: str = ""
    pid: int = 0
    state: str = "missing"
    problem: str = ""
    traces: list[Gathered] = field(default_factory=list)

    @property
    def title(self) -> str:
        """For people."""
        who = f"{self.role} {self.label or self.name}"
        return f"{who} ({self.name})" if self.label and self.label != self.name else who

    @property
    def end(self) -> int | None:
        """When its newest record was made."""
        ends = [one.last_record for one in self.traces if one.last_record is not None]
        return max(ends, default=None)


@dataclass
class Manifest:
    """A set of traces.

    Parameters
    ----------
    made_by : str
        What has gathered it.
    at : int
        The moment that it shows, nanoseconds since the Unix epoch by its clock.
    last : float or None
        Seconds before that were asked for.
    reference : str
        Whose clock it is.
    reason : str
        Why it was made.
    seconds : float
        How long gathering took.
    members : list of Member
    """

    made_by: str
    at: int
    last: float | None = None
    reference: str = ""
    reason: str = ""
    seconds: float = 0.0
    members: list[Member] = field(default_factory=list)
    path: str = field(default="", compare=False)

    def by_state(self, state: str) -> list[Member]:
        """The members that are ``"alive"``, ``"dead"``, ``"ended"`` or ``"missing"``."""
        return [one for one in self.members if one.state == state]

    @property
    def missing(self) -> list[Member]:
        """Those of whom there is no trace."""
        return [one for one in self.members if not one.traces]

    def as_dict(self) -> dict:
        """As JSON can say it."""
        found = asdict(self)
        del found["path"]
        return {"format": _FORMAT, "version": _VERSION, **found}

    def to_json(self) -> str:
        return json.dumps(self.as_dict(), indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str, path: str = "") -> Manifest:
        """Read one.

        Raises
        ------
        TraceError
            It is no manifest, or of another version.
        """
        try:
            found = json.loads(text)
            if found.get("format") != _FORMAT:
                raise ValueError("it is no manifest of a trace set")
            if found["version"] != _VERSION:
                raise ValueError(f"it is of version {found['version']}, and this ringbuf reads version {_VERSION}")
            members = [_member(one) for one in found["members"]]
            made = _known(cls, found)
            return cls(**{**made, "members": members, "path": path})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise TraceError(f"{path or NAME}: {error}") from None

    def __str__(self) -> str:
        from .health import report

        return "\n".join(report(self))


def read_manifest(place) -> Manifest | None:
    """That of a place, if it has one."""
    if not place.is_file(NAME):
        return None
    with place.open(NAME) as file:
        data = file.read_at(0, _LARGEST)
    try:
        return Manifest.from_json(data.decode(), place.join(NAME))
    except UnicodeDecodeError as error:
        raise TraceError(f"{place.join(NAME)}: {error}") from None


def _known(cls, found: dict) -> dict:
    """What this version knows of; later ones may add to it."""
    return {one.name: found[one.name] for one in fields(cls) if one.name in found}


def _member(found: dict) -> Member:
    traces = [Gathered(**_known(Gathered, one)) for one in found["traces"]]
    member = Member(**{**_known(Member, found), "traces": traces})
    if member.state not in STATES:
        raise ValueError(f"member {member.name!r} has the state {member.state!r}")
    return member
