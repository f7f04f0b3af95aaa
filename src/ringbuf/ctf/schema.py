"""Event schemas: which fields an event has, as text and as objects.

The text form is what a channel keeps in shared memory and what processes
compare byte for byte, so one list of fields has exactly one text, its
*canonical* text::

    schema := [ field { "," field } ]
    field  := name ":" type
    name   := an ASCII Python identifier
    type   := number | "bool" | "str" | bytes | enum
            | number "[]" | number "[" n "]" | "bool[]" | "bool[" n "]"
    number := "u8" | "u16" | "u32" | "u64" | "i8" | "i16" | "i32" | "i64" | "f32" | "f64"
    bytes  := "bytes" [ "@" a ]                    a: 2, 4, ... 4096
    enum   := integer "{" label "=" value { "," label "=" value } "}"

Canonical text has no spaces, decimal numbers without leading zeros, and no
``@1``; the order of fields and labels is the order they were given in.
`parse` also accepts spaces around every token.
"""

from __future__ import annotations

import enum
import re
from collections import namedtuple  # not dataclasses, whose import takes longer than the rest of a tracer

__all__ = [
    "FLOATS",
    "INTEGERS",
    "MAX_ALIGN",
    "EventSchema",
    "Field",
    "canonical",
    "from_mapping",
    "least_size",
    "parse",
    "parts",
    "to_text",
]

#: Integer types: name -> (bits, signed).
INTEGERS = {
    "u8": (8, False),
    "u16": (16, False),
    "u32": (32, False),
    "u64": (64, False),
    "i8": (8, True),
    "i16": (16, True),
    "i32": (32, True),
    "i64": (64, True),
}
#: Floating-point types: name -> bits.
FLOATS = {"f32": 32, "f64": 64}
#: Largest alignment of a ``bytes`` field, in bytes.
MAX_ALIGN = 4096

_MAX_LENGTH = 2**32 - 1
_MAX_EVENT_ID = 2**32 - 1
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)
_NUMBER = re.compile(r"(?:0|[1-9][0-9]*)\Z", re.ASCII)
_TYPE = re.compile(
    r"(?P<base>[a-z][a-z0-9]*)\s*"
    r"(?:\[\s*(?P<length>[0-9]*)\s*\]|@\s*(?P<align>[0-9]+)|\{(?P<labels>[^{}]*)\})?\Z",
    re.ASCII,
)


class Field(namedtuple("Field", ("name", "base", "length", "labels", "align"), defaults=(None, (), 1))):
    """One field of an event.

    Parameters
    ----------
    name : str
        ASCII Python identifier; keywords of any language are fine.
    base : str
        Element type: a key of `INTEGERS` or `FLOATS`, ``"bool"``, ``"str"``
        or ``"bytes"``.
    length : int, optional
        None: one value. 0: a sequence (``T[]``). n >= 1: an array (``T[n]``).
    labels : tuple of (str, int)
        Enumeration labels; empty for anything else.
    align : int
        ``bytes`` only: alignment in bytes of the first data byte, relative to
        the start of the packet.

    Raises
    ------
    ValueError
        A part is not allowed, or the parts do not go together.
    """

    __slots__ = ()
    name: str
    base: str
    length: int | None
    labels: tuple[tuple[str, int], ...]
    align: int

    def __new__(cls, *values, **named) -> Field:
        self = super().__new__(cls, *values, **named)
        self._check()
        return self

    def _check(self) -> None:
        if not isinstance(self.name, str) or not _NAME.match(self.name):
            raise ValueError(f"field name {self.name!r} is not an ASCII identifier")
        _check_base(self)
        _check_length(self)
        _check_align(self)
        if self.labels:
            _check_labels(self)

    @property
    def type(self) -> str:
        """Canonical text of the type, for example ``"u32[]"``."""
        if self.labels:
            pairs = ",".join(f"{label}={value}" for label, value in self.labels)
            return f"{self.base}{{{pairs}}}"
        if self.length is not None:
            return f"{self.base}[{self.length or ''}]"
        return self.base if self.align == 1 else f"{self.base}@{self.align}"

    @property
    def kind(self) -> str:
        """What a Python argument for this field is.

        One of ``"int"``, ``"float"``, ``"bool"``, ``"str"``, ``"bytes"``,
        ``"enum"`` (a member or its int value), ``"sequence"`` (any length) and
        ``"array"`` (exactly `length` elements).
        """
        if self.labels:
            return "enum"
        if self.length is not None:
            return "array" if self.length else "sequence"
        if self.base in INTEGERS:
            return "int"
        return "float" if self.base in FLOATS else self.base

    def __str__(self) -> str:
        return f"{self.name}:{self.type}"


class EventSchema(namedtuple("EventSchema", ("id", "name", "contexts", "fields"))):
    """An event class: what its records are called and contain.

    Parameters
    ----------
    id : int
        Event class id in its channel, 0 <= id < 2**32.
    name : str
        Any non-empty text that UTF-8 can encode, without U+0000.
    contexts, fields : str
        Schema texts; stored canonically. The event's own contexts have no
        ``bytes`` and no sequences: babeltrace2 2.0 aborts on a trace with
        such a thing there, though not in the contexts of a whole channel.

    Raises
    ------
    ValueError
        One of these is not allowed.
    """

    __slots__ = ()
    id: int
    name: str
    contexts: str
    fields: str

    def __new__(cls, id: int, name: str, contexts: str = "", fields: str = "") -> EventSchema:
        if not 0 <= id <= _MAX_EVENT_ID:
            raise ValueError(f"event id {id} is not within 0..{_MAX_EVENT_ID}")
        _check_event_name(name)
        own = parse(contexts)
        for field in own:
            if field.kind in ("bytes", "sequence"):
                raise ValueError(f"event {name!r}: a context cannot be {field.type}, unless it is the channel's")
        return super().__new__(cls, id, name, to_text(own), canonical(fields))


def parse(text: str) -> tuple[Field, ...]:
    """Read a schema text.

    Parameters
    ----------
    text : str
        See the grammar at the top of the module. ``""`` has no fields.

    Returns
    -------
    tuple of Field

    Raises
    ------
    ValueError
        The text does not follow the grammar, a field or label repeats, or a
        label's value does not fit its container.
    """
    if not text.strip():
        return ()
    return _checked(_parse_field(part) for part in _split_fields(text))


def to_text(fields) -> str:
    """Canonical text of `fields`, an iterable of `Field`."""
    return ",".join(str(field) for field in _checked(fields))


def canonical(text: str) -> str:
    """The one text that means the same as `text`."""
    return to_text(parse(text))


def from_mapping(fields) -> tuple[Field, ...]:
    """Fields from a mapping of names to Python-side types.

    Parameters
    ----------
    fields : mapping of str to (str or enum.Enum subclass)
        A type's text (``"u64"``, ``"u32[]"``, ``"f64[3]"``, ``"str"``, ...) or
        an enumeration class whose members' values are ints of at most 64 bits.
        Its container is the smallest unsigned type that holds every value, or
        signed if one is negative. Aliases of a member are left out.

    Returns
    -------
    tuple of Field
        In the mapping's order.

    Raises
    ------
    TypeError
        A type is neither text nor an enumeration class.
    ValueError
        As in `parse`.
    """
    return _checked(_field_of(name, kind) for name, kind in fields.items())


def parts(fields) -> list[tuple[str, str, int | None]]:
    """Fields as the core takes them: (name, base, length)."""
    return [(field.name, field.base, field.length) for field in fields]


def least_size(field: Field) -> int:
    """Bytes of the smallest value that the field can have."""
    if field.base == "str":
        return 1
    if field.base == "bytes" or field.length == 0:
        return 4
    bits = INTEGERS[field.base][0] if field.base in INTEGERS else FLOATS.get(field.base, 8)
    return bits // 8 * (field.length or 1)


def _checked(fields) -> tuple[Field, ...]:
    fields = tuple(fields)
    seen = set()
    for field in fields:
        if field.name in seen:
            raise ValueError(f"field {field.name!r} appears twice")
        seen.add(field.name)
    return fields


def _split_fields(text: str) -> list[str]:
    """Split at the commas that are outside braces."""
    parts, depth, start = [], 0, 0
    for index, char in enumerate(text):
        if char == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
        else:
            depth += (char == "{") - (char == "}")
    return [*parts, text[start:]]


def _parse_field(text: str) -> Field:
    name, colon, kind = text.partition(":")
    if not colon:
        raise ValueError(f"{text.strip()!r} is not name:type")
    return _typed_field(name.strip(), kind.strip())


def _typed_field(name: str, kind: str) -> Field:
    match = _TYPE.match(kind)
    if match is None:
        raise ValueError(f"field {name!r}: {kind!r} is not a type")
    base, length, align, labels = match.group("base", "length", "align", "labels")
    if length is not None:
        if length and not _positive(length):
            raise ValueError(f"field {name!r}: array length {length!r} is not 1..{_MAX_LENGTH}")
        return Field(name, base, length=int(length or 0))
    if align is not None:
        return Field(name, base, align=int(align) if _positive(align) else 0)
    if labels is not None:
        return Field(name, base, labels=tuple(_parse_label(name, item) for item in labels.split(",")))
    return Field(name, base)


def _positive(digits: str) -> bool:
    # Length before int(): a long run of digits is refused without converting it.
    return bool(_NUMBER.match(digits)) and len(digits) <= 10 and int(digits) > 0


def _parse_label(name: str, text: str) -> tuple[str, int]:
    label, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not _NUMBER.match(value.removeprefix("-")) or value == "-0" or len(value) > 20:
        raise ValueError(f"field {name!r}: {text.strip()!r} is not LABEL=value")
    return label, int(value)


def _field_of(name, kind) -> Field:
    if isinstance(kind, str):
        return _typed_field(name, kind.strip())
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        labels = _members(name, kind)
        return Field(name, _container([value for _, value in labels]), labels=labels)
    raise TypeError(f"field {name!r}: a type is a str or an enum.Enum class, not {kind!r}")


def _members(name: str, cls: type[enum.Enum]) -> tuple[tuple[str, int], ...]:
    # __members__, not iteration: iterating a Flag leaves out zero and the
    # combinations that have a name.
    members = [member for label, member in cls.__members__.items() if member.name == label]
    if not members:
        raise ValueError(f"field {name!r}: {cls.__name__} has no members")
    for member in members:
        if not isinstance(member.value, int):
            raise ValueError(f"field {name!r}: the value of {member} is not an int")
    return tuple((member.name, int(member.value)) for member in members)


def _container(values: list[int]) -> str:
    for base in INTEGERS:
        low, high = _limits(base)
        if low <= min(values) and max(values) <= high:
            return base
    raise ValueError(f"no 64-bit integer holds both {min(values)} and {max(values)}")


def _limits(base: str) -> tuple[int, int]:
    bits, signed = INTEGERS[base]
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


def _check_base(field: Field) -> None:
    if field.base not in INTEGERS and field.base not in FLOATS and field.base not in ("bool", "str", "bytes"):
        raise ValueError(f"field {field.name!r}: {field.base!r} is not a type")


def _check_length(field: Field) -> None:
    if field.length is None:
        return
    if field.base in ("str", "bytes") or field.labels:
        raise ValueError(f"field {field.name!r}: arrays and sequences hold numbers or bools, not {field.base}")
    if not 0 <= field.length <= _MAX_LENGTH:
        raise ValueError(f"field {field.name!r}: array length {field.length} is not 1..{_MAX_LENGTH}")


def _check_align(field: Field) -> None:
    if field.align == 1:
        return
    if field.base != "bytes":
        raise ValueError(f"field {field.name!r}: only bytes can be aligned, not {field.base}")
    if not 0 < field.align <= MAX_ALIGN or field.align & (field.align - 1):
        raise ValueError(f"field {field.name!r}: the alignment is not a power of two within 1..{MAX_ALIGN}")


def _check_labels(field: Field) -> None:
    if field.base not in INTEGERS:
        raise ValueError(f"field {field.name!r}: labels need an integer type, not {field.base}")
    low, high = _limits(field.base)
    seen = set()
    for label, value in field.labels:
        if not label.isidentifier():
            raise ValueError(f"field {field.name!r}: label {label!r} is not an identifier")
        if label in seen:
            raise ValueError(f"field {field.name!r}: label {label!r} appears twice")
        if not low <= value <= high:
            raise ValueError(f"field {field.name!r}: {label}={value} does not fit {field.base}")
        seen.add(label)


def _check_event_name(name: str) -> None:
    if not isinstance(name, str):
        raise TypeError(f"an event's name is a str, not {name!r}")
    if not name or "\0" in name:
        raise ValueError(f"event name {name!r} is empty or contains U+0000")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"event name {name!r} cannot be written as UTF-8") from error
