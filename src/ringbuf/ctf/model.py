"""The types of a trace, whichever language its metadata are written in.

`tsdl` reads the text of CTF 1.8 into this model, `json2` the JSON of CTF 2. Sizes
and alignments are in bits throughout.

A member that means something to every reader has a role, under the name that CTF 2
gives it; CTF 1.8 tells by a member's name.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Union

__all__ = [
    "BYTES",
    "CPU",
    "PACKET_MAGIC",
    "ROLES",
    "Array",
    "Bits",
    "Blob",
    "Boolean",
    "Clock",
    "Enum",
    "Event",
    "Float",
    "Integer",
    "Location",
    "Optional",
    "Sequence",
    "Stream",
    "String",
    "Struct",
    "Text",
    "Trace",
    "Type",
    "VarInteger",
    "Variant",
    "visible_members",
]

#: What a packet starts with, if its header has such a number.
PACKET_MAGIC = 0xC1FC1FC1

#: The media type of bytes of which no more is known.
BYTES = "application/octet-stream"

#: Which CPU a packet is from. CTF knows no such role: all tracers call the member ``cpu_id``.
CPU = "cpu"

#: Every role, in the order in which decode.h numbers them from 1 on.
ROLES = (
    "default-clock-timestamp",
    "event-record-class-id",
    "packet-magic-number",
    "metadata-stream-uuid",
    "data-stream-class-id",
    "data-stream-id",
    "packet-end-default-clock-timestamp",
    "packet-content-length",
    "packet-total-length",
    "packet-sequence-number",
    "discarded-event-record-counter-snapshot",
    CPU,
)

#: Deeper than any tracer nests; keeps every recursion over types bounded.
MAX_DEPTH = 100
MAX_ALIGN = 1 << 20


@dataclass(frozen=True)
class Location:
    """Where a length or a selector is found.

    From the structure at `origin`, such as ``"event.fields"``; without one, from the
    structure around the member that asks, where None is the structure around that.
    """

    origin: str | None
    path: tuple[str | None, ...]

    def __str__(self) -> str:
        names = ["(parent)" if name is None else name for name in self.path]
        return ".".join([self.origin, *names] if self.origin else names)


@dataclass(frozen=True)
class Integer:
    """An integer of `size` bits (1 to 64).

    `byte_order` is ``"le"``, ``"be"`` or None for the trace's own; `clock` is
    the name of the clock the value counts, if any; `encoding` is ``"utf8"`` or
    ``"ascii"`` for characters. `alias` is the type's name, where it has one.
    `base` is that of the digits in which the value is meant to be shown. With
    `is_reversed`, the first bit is the last of the value.
    """

    size: int
    signed: bool = False
    align: int = 1
    byte_order: str | None = None
    encoding: str | None = None
    clock: str | None = None
    alias: str | None = field(default=None, compare=False)
    base: int = field(default=10, compare=False)
    role: str | None = field(default=None, compare=False)
    is_reversed: bool = False


@dataclass(frozen=True)
class VarInteger:
    """An integer in LEB128: seven bits of each byte, lowest first; at most 64."""

    signed: bool = False
    clock: str | None = None
    base: int = field(default=10, compare=False)
    role: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Bits:
    """`size` bits (1 to 64) that are no number. Some may have names: (name, first bit, last bit)."""

    size: int
    align: int = 1
    byte_order: str | None = None
    flags: tuple[tuple[str, int, int], ...] = ()
    is_reversed: bool = False


@dataclass(frozen=True)
class Boolean:
    """True if one of `size` bits (1 to 64) is set."""

    size: int
    align: int = 1
    byte_order: str | None = None


@dataclass(frozen=True)
class Float:
    """An IEEE 754 number of 16, 32, 64 or 128 bits, or more."""

    size: int
    align: int = 1
    byte_order: str | None = None
    is_reversed: bool = False


@dataclass(frozen=True)
class String:
    """Text up to a NUL."""

    encoding: str = "utf-8"


@dataclass(frozen=True)
class Text:
    """Text of `length` bytes; a NUL ends it early."""

    length: "int | Location"
    encoding: str = "utf-8"
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Blob:
    """`length` bytes."""

    length: "int | Location"
    media_type: str = BYTES
    role: str | None = field(default=None, compare=False)
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Enum:
    """An integer whose values have labels: (label, lowest value, highest value)."""

    container: "Integer | VarInteger"
    labels: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Array:
    """`length` elements."""

    element: "Type"
    length: int
    align: int = 1
    role: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Sequence:
    """As many elements as the integer at the path `length` says."""

    element: "Type"
    length: "str | Location"
    where: str = field(default="", compare=False)
    align: int = 1


@dataclass(frozen=True)
class Struct:
    """Members one after another, aligned to `align` or to the largest alignment among them.

    In CTF 1.8 a name may begin with an underscore that keeps it from being a keyword; with
    `are_plain`, names are as they are.
    """

    members: tuple[tuple[str, "Type"], ...] = ()
    align: int = 1
    are_plain: bool = field(default=False, compare=False)


@dataclass(frozen=True)
class Optional:
    """There if the boolean at `selector` is true, or the integer there is in one of `ranges`."""

    element: "Type"
    selector: Location
    ranges: tuple[tuple[int, int], ...] | None = None
    where: str = field(default="", compare=False)


@dataclass(frozen=True)
class Variant:
    """One of the options.

    The one whose ranges have the integer at the path `tag`; without ranges, the one named
    by the label of the enumeration there.
    """

    tag: "str | Location | None"
    options: tuple[tuple[str, "Type"], ...]
    where: str = field(default="", compare=False)
    ranges: tuple[tuple[tuple[int, int], ...], ...] | None = None


Type = Union[
    Integer, VarInteger, Bits, Boolean, Float, String, Text, Blob, Enum, Array, Sequence, Struct, Optional, Variant
]


@dataclass
class Clock:
    """A clock: tick 0 is `offset_s` seconds and `offset` ticks after its origin.

    `absolute` tells that the origin is the Unix epoch; `origin` names another one that is known.
    `precision` and `accuracy` are in ticks, None if unknown.
    """

    name: str = ""
    freq: int = 1_000_000_000
    offset_s: int = 0
    offset: int = 0
    uuid: bytes | None = None
    absolute: bool = False
    description: str = ""
    namespace: str | None = None
    uid: str | None = None
    origin: tuple[str | None, str, str] | None = None
    precision: int | None = None
    accuracy: int | None = None
    attributes: dict = field(default_factory=dict)


@dataclass
class Event:
    """An event class."""

    id: int = 0
    name: str = ""
    stream_id: int = 0
    context: Struct | None = None
    fields: Struct | None = None
    namespace: str | None = None
    uid: str | None = None
    attributes: dict = field(default_factory=dict)


@dataclass
class Stream:
    """A stream class: what its packets and all its events have in common."""

    id: int = 0
    packet_context: Struct | None = None
    event_header: Struct | None = None
    event_context: Struct | None = None
    events: dict[int, Event] = field(default_factory=dict)
    clock: str | None = None
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    attributes: dict = field(default_factory=dict)


@dataclass
class Trace:
    """Everything that metadata declare.

    `byte_order` is that of what names none, and of the packets' magic number.
    """

    version: int = 1
    byte_order: str = "le"
    uuid: bytes | None = None
    packet_header: Struct | None = None
    env: dict[str, int | str] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    attributes: dict = field(default_factory=dict)


def visible_members(kind: Struct) -> list[tuple[str | None, Type]]:
    """The members of a structure with the names that readers show.

    One leading underscore is dropped. Members that only help to read another
    one have no name: the length of a sequence ``_X`` called ``__X_length``, and
    a variant that can only be padding together with its tag.

    Parameters
    ----------
    kind : Struct

    Returns
    -------
    list of (str or None, Type)
        As long as `kind.members`, in the same order.
    """
    names = {name for name, _ in kind.members}
    helpers = set()
    for name, member in kind.members:
        if isinstance(member, (Sequence, Text, Blob)) and not isinstance(member.length, int):
            length = _asked(member.length)
            if length in names and length.rstrip("_") == f"_{name}_length":
                helpers.add(length)
        elif isinstance(member, Variant) and all(_is_padding(option) for _, option in member.options):
            helpers |= {name, _asked(member.tag)}
    shown = [None if name in helpers else name if kind.are_plain else name.removeprefix("_") for name in names_of(kind)]
    return list(zip(shown, (member for _, member in kind.members), strict=True))


def names_of(kind: Struct) -> list[str]:
    """The members' names as they are declared."""
    return [name for name, _ in kind.members]


def _asked(path: "str | Location | None") -> str:
    """The member's name at the end of a path."""
    if isinstance(path, Location):
        return path.path[-1] or ""
    return path or ""


def _is_padding(kind: Type) -> bool:
    return isinstance(kind, Struct) and not kind.members
