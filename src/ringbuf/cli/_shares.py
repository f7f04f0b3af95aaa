"""Which events the records of living channels are, from the full packets that pass: for `ringbuf top --events`."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..errors import RingbufError, TraceError
from ..live.follow import FollowedChannel
from ..live.sharing import attach

__all__ = ["Share", "Shares"]


@dataclass
class Share:
    """An event's part in a channel.

    Attributes
    ----------
    event, channel : str
    share : float or None
        Of the records that were seen; None: none was, and `why` not.
    records_per_second : float
        That part of what the channel counts.
    """

    event: str
    channel: str
    share: float | None
    records_per_second: float
    why: str = ""


@dataclass
class _Channel:
    seen: dict[int, int] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)  # of the newest packets that passed
    why: str = "no packet has been filled yet"


class Shares:
    """Looks at channels time and again; ends no packet, takes nothing, keeps nothing open."""

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}

    def of(self, path: str, where: int | str, name: str, records_per_second: float) -> list[Share]:
        """The events of a channel, which takes in so many records a second."""
        known = self._channels.setdefault(path, _Channel())
        self._look(known, where)
        total = sum(known.counts.values())
        if not total:
            return [Share("?", name, None, records_per_second, known.why)]
        shares = {event: count / total for event, count in known.counts.items() if count}
        return [Share(event, name, share, share * records_per_second) for event, share in shares.items()]

    def _look(self, known: _Channel, where: int | str) -> None:
        try:
            with attach(where) as channel:
                counts = FollowedChannel(channel, flush=False, seen=known.seen).look().counts()
        except (RingbufError, TraceError, OSError) as error:
            known.why = " ".join(str(error).split())
            return
        known.counts = counts if any(counts.values()) else known.counts
