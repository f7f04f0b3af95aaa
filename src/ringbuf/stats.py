"""The counters of a channel or stream."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Stats"]


@dataclass(frozen=True)
class Stats:
    """Exact counts since the channel was created, over all processes.

    When nobody is recording or reading, two identities hold between them::

        attempts        = records_written + records_discarded + records_lost
        records_written = records_read + records_overrun + records_unread + records_torn

    Parameters
    ----------
    records_written : int
        Committed, or torn: every record that got its space and was not discarded.
    records_read : int
        In packets that a reader released as read.
    records_unread : int
        Committed and still to be read.
    records_overrun : int
        Overwritten before they were read, or cleared.
    records_lost_full, records_lost_wrap : int
        No room: the reader is behind; or a producer is still inside the oldest sub-buffer, and no spare is
        left to take its place (``n_spares`` was too small).
    records_lost_big : int
        Larger than a sub-buffer.
    records_lost_nesting, records_lost_slots : int
        More than four records open in one thread; more threads than producer slots.
    records_lost_memory : int
        The file system of the channel's file was full when somebody recorded on that CPU for the first time.
    records_lost_disabled : int
        The channel was disabled or finalized. Not reported as discarded events in traces.
    records_torn : int
        Their producer died over them.
    records_discarded : int
        Given up by their own producer.
    records_cleared : int
        Of records_overrun: thrown away by `Channel.clear`, or lapped in a reader's hands.
    packets_read : int
        Packets released by readers.
    packets_parked : int
        Overwritten while a producer was still inside: it was paused for as long as the ring took to come round. Each
        took a spare sub-buffer until it went on.
    parked_now : int
        Of these, those that it has not left yet. What is committed in them counts as overrun.
    """

    records_written: int = 0
    records_read: int = 0
    records_unread: int = 0
    records_overrun: int = 0
    records_lost_full: int = 0
    records_lost_wrap: int = 0
    records_lost_big: int = 0
    records_lost_nesting: int = 0
    records_lost_slots: int = 0
    records_lost_memory: int = 0
    records_lost_disabled: int = 0
    records_torn: int = 0
    records_discarded: int = 0
    records_cleared: int = 0
    packets_read: int = 0
    packets_parked: int = 0
    parked_now: int = 0

    @property
    def records_lost(self) -> int:
        """Refused records, of all causes."""
        return sum(count for name, count in vars(self).items() if name.startswith("records_lost_"))

    @property
    def attempts(self) -> int:
        """Calls that asked for a record."""
        return self.records_written + self.records_discarded + self.records_lost
