"""The metadata language of CTF 1.8 (TSDL): text in, a model of the trace's types out.

Covered is what LTTng (user space and kernel) and ringbuf itself write:
integers, floating-point numbers, enumerations, strings, structures, variants,
arrays and sequences nested in any way; ``typealias`` and ``typedef``; the
``trace``, ``env``, ``clock``, ``stream`` and ``event`` blocks. Anything else is
a `TraceError` that names the line.

Sizes and alignments are in bits throughout, as in the language itself.
"""

from __future__ import annotations

import re
import struct
import uuid as uuids
from dataclasses import dataclass, field, replace
from typing import Union

from ..errors import TraceError

__all__ = [
    "Array",
    "Clock",
    "Enum",
    "Event",
    "Float",
    "Integer",
    "Sequence",
    "Stream",
    "String",
    "Struct",
    "Trace",
    "Type",
    "Variant",
    "parse",
    "text_of",
    "visible_members",
]

#: What a text metadata file starts with.
FIRST_LINE = "/* CTF 1.8 */"

#: What a packet starts with, if its header has a member ``magic``.
PACKET_MAGIC = 0xC1FC1FC1

_METADATA_MAGIC = 0x75D11D57
#: Deeper than any tracer nests; keeps every recursion over types bounded.
_MAX_DEPTH = 100
_HEXADECIMAL = ("16", "hexadecimal", "hex", "x", "X", "p")
_MAX_ALIGN = 1 << 20


# ---- the model ----


@dataclass(frozen=True)
class Integer:
    """An integer of `size` bits (1 to 64).

    `byte_order` is ``"le"``, ``"be"`` or None for the trace's own; `clock` is
    the name of the clock the value counts, if any; `encoding` is ``"utf8"`` or
    ``"ascii"`` for characters. `alias` is the type's name, where it has one.
    `base` is 16 if the value is meant to be shown in hexadecimal digits, else 10.
    """

    size: int
    signed: bool = False
    align: int = 1
    byte_order: str | None = None
    encoding: str | None = None
    clock: str | None = None
    alias: str | None = field(default=None, compare=False)
    base: int = field(default=10, compare=False)


@dataclass(frozen=True)
class Float:
    """An IEEE 754 number of 32 or 64 bits."""

    size: int
    align: int = 1
    byte_order: str | None = None


@dataclass(frozen=True)
class String:
    """Bytes up to a NUL."""


@dataclass(frozen=True)
class Enum:
    """An integer whose values have labels: (label, lowest value, highest value)."""

    container: Integer
    labels: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Array:
    """`length` elements."""

    element: "Type"
    length: int


@dataclass(frozen=True)
class Sequence:
    """As many elements as the integer at the path `length` says."""

    element: "Type"
    length: str
    line: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Struct:
    """Members one after another, aligned to `align` or to the largest alignment among them."""

    members: tuple[tuple[str, "Type"], ...] = ()
    align: int = 1


@dataclass(frozen=True)
class Variant:
    """One of the options: the one named by the label of the enumeration at the path `tag`."""

    tag: str | None
    options: tuple[tuple[str, "Type"], ...]
    line: int = field(default=0, compare=False)


Type = Union[Integer, Float, String, Enum, Array, Sequence, Struct, Variant]


@dataclass
class Clock:
    """A clock: tick 0 is `offset_s` seconds and `offset` ticks after its origin."""

    name: str = ""
    freq: int = 1_000_000_000
    offset_s: int = 0
    offset: int = 0
    uuid: bytes | None = None
    absolute: bool = False
    description: str = ""


@dataclass
class Event:
    """An event class."""

    id: int = 0
    name: str = ""
    stream_id: int = 0
    context: Struct | None = None
    fields: Struct | None = None


@dataclass
class Stream:
    """A stream class: what its packets and all its events have in common."""

    id: int = 0
    packet_context: Struct | None = None
    event_header: Struct | None = None
    event_context: Struct | None = None
    events: dict[int, Event] = field(default_factory=dict)


@dataclass
class Trace:
    """Everything a metadata text declares."""

    byte_order: str = "le"
    uuid: bytes | None = None
    packet_header: Struct | None = None
    env: dict[str, int | str] = field(default_factory=dict)
    clocks: dict[str, Clock] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)


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
        if isinstance(member, Sequence) and member.length in names and member.length.rstrip("_") == f"_{name}_length":
            helpers.add(member.length)
        elif isinstance(member, Variant) and all(_is_padding(option) for _, option in member.options):
            helpers |= {name, member.tag}
    return [(None if name in helpers else name.removeprefix("_"), member) for name, member in kind.members]


def _is_padding(kind: Type) -> bool:
    return isinstance(kind, Struct) and not kind.members


# ---- from a file's bytes to text ----


def text_of(data: bytes) -> str:
    """Text of a metadata file, which may be plain or cut into packets.

    Parameters
    ----------
    data : bytes
        The whole file.

    Returns
    -------
    str

    Raises
    ------
    TraceError
        It is neither text that begins with ``/* CTF 1.8 */`` nor a series of
        metadata packets, or a packet is damaged.
    """
    for order in "<>":
        if data[:4] == struct.pack(order + "I", _METADATA_MAGIC):
            data = b"".join(_packet_bodies(data, order))
            break
    else:
        _check_first_line(data)
    # Escapes what is no UTF-8 instead of refusing a whole trace for one name.
    return data.decode("utf-8", "surrogateescape")


def _check_first_line(data: bytes) -> None:
    if data.lstrip()[:1] in (b"{", b"\x1e"):
        raise TraceError("metadata: this is CTF 2 (JSON); only CTF 1.8 can be read")
    if not data.startswith(FIRST_LINE.encode()):
        raise TraceError(f"metadata: the first line is not {FIRST_LINE}")


def _packet_bodies(data: bytes, order: str):
    header = struct.Struct(order + "I16sIIIBBBBB")
    start = 0
    while start < len(data):
        if len(data) - start < header.size:
            raise TraceError(f"metadata: the packet at byte {start} is cut short")
        magic, _, _, content, packet, compression, encryption, *_ = header.unpack_from(data, start)
        if magic != _METADATA_MAGIC or content % 8 or packet % 8:
            raise TraceError(f"metadata: no packet header at byte {start}")
        if compression or encryption:
            raise TraceError(f"metadata: the packet at byte {start} is compressed or encrypted")
        if not header.size <= content // 8 <= packet // 8 <= len(data) - start:
            raise TraceError(f"metadata: the sizes of the packet at byte {start} are impossible")
        yield data[start + header.size : start + content // 8]
        start += packet // 8


# ---- tokens ----


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # "name", "number", "string", "end", or the punctuation itself
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<space>\s+|/\*.*?\*/|//[^\n]*)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>0[xX][0-9A-Fa-f]+|[0-9]+)[uUlL]*
      | "(?P<string>(?:\\.|[^\\"])*)"
      | (?P<mark>\.\.\.|:=|[{}\[\]()<>;:,.=*+-])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,2})|(.))", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _tokens(text: str) -> list[_Token]:
    tokens, position, line = [], 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise TraceError(f"metadata line {line}: {text[position]!r} is not TSDL")
        kind = match.lastgroup
        if kind != "space":
            value = match.group(kind)
            tokens.append(_Token(value if kind == "mark" else kind, value, line))
        line += match.group().count("\n")
        position = match.end()
    return [*tokens, _Token("end", "the end of the text", line)]


def _unescape(text: str) -> str:
    def replaced(match):
        octal, hexadecimal, char = match.groups()
        if char:
            return _ESCAPED.get(char, char)
        value = int(octal or hexadecimal, 8 if octal else 16) & 0xFF
        # Beyond ASCII it is one byte of UTF-8, perhaps; put together below.
        return chr(value if value < 0x80 else 0xDC00 + value)

    if "\\" not in text:
        return text
    return _ESCAPE.sub(replaced, text).encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")


# ---- the parser ----


@dataclass
class _Scope:
    """Names that typealias, struct, enum and variant declarations have defined."""

    parent: "_Scope | None" = None
    types: dict[tuple[str, str], Type] = field(default_factory=dict)

    def find(self, kind: str, name: str) -> Type | None:
        scope: _Scope | None = self
        while scope is not None:
            if (kind, name) in scope.types:
                return scope.types[kind, name]
            scope = scope.parent
        return None


def parse(text: str) -> Trace:
    """Read a metadata text.

    Parameters
    ----------
    text : str
        TSDL, see `text_of`.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        With the line: the text is not TSDL, or uses a part of it that is not
        supported.
    """
    return _Parser(_tokens(text)).trace()


class _Parser:
    """Recursive descent over the tokens; one method for each construct."""

    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = tokens
        self._next = 0
        self._scope = _Scope()
        self._depth = 0
        self._model = Trace()
        self._has_trace = False
        self._events: list[tuple[Event, int]] = []

    def trace(self) -> Trace:
        blocks = {
            "trace": self._trace_block,
            "env": self._env_block,
            "clock": self._clock_block,
            "stream": self._stream_block,
            "event": self._event_block,
            "callsite": self._block,
        }
        while self._peek().kind != "end":
            word = self._peek().text
            if word in blocks and self._peek_after().kind == "{":
                self._take()
                blocks[word]()
                self._expect(";")
            else:
                self._declaration()
        if not self._has_trace:
            raise self._error("there is no trace block")
        self._place_events()
        return self._model

    def _place_events(self) -> None:
        for event, line in self._events:
            # A trace whose only stream has no id of its own may leave out its block.
            stream = self._model.streams.setdefault(event.stream_id, Stream(event.stream_id))
            if event.id in stream.events:
                raise self._error(f"event {event.id} of stream {stream.id} is declared twice", line)
            stream.events[event.id] = event

    # -- tokens --

    def _peek(self) -> _Token:
        return self._tokens[self._next]

    def _peek_after(self) -> _Token:
        return self._tokens[min(self._next + 1, len(self._tokens) - 1)]

    def _take(self) -> _Token:
        token = self._tokens[self._next]
        if token.kind != "end":
            self._next += 1
        return token

    def _accept(self, kind: str) -> bool:
        if self._peek().kind == kind:
            self._take()
            return True
        return False

    def _expect(self, kind: str) -> _Token:
        if self._peek().kind != kind:
            raise self._error(f"expected {kind} before {self._peek().text!r}")
        return self._take()

    def _error(self, reason: str, line: int | None = None) -> TraceError:
        return TraceError(f"metadata line {self._peek().line if line is None else line}: {reason}")

    # -- blocks --

    def _block(self) -> dict:
        """``{ name.name = value; name := type; declarations }``"""
        self._expect("{")
        self._scope = _Scope(self._scope)
        entries: dict = {}
        while not self._accept("}"):
            if self._is_entry():
                self._entry(entries)
            else:
                self._declaration()
        self._scope = self._scope.parent
        return entries

    def _is_entry(self) -> bool:
        # What comes after tells: `string = "x";` is an entry, too.
        return self._peek().kind == "name" and self._peek_after().kind in ("=", ":=", ".")

    def _entry(self, entries: dict) -> None:
        key = self._take().text
        while self._accept("."):
            key += "." + self._expect("name").text
        if self._accept(":="):
            entries[key] = self._whole_type()
        else:
            self._expect("=")
            entries[key] = self._value()
        self._expect(";")

    def _value(self) -> int | str:
        """A number, a string, or a dotted name (as its text)."""
        if self._peek().kind in ("number", "+", "-"):
            return self._number()
        if self._peek().kind == "string":
            return _unescape(self._take().text)
        text = self._expect("name").text
        while self._accept("."):
            text += "." + self._expect("name").text
        return text

    def _number(self) -> int:
        sign = -1 if self._accept("-") else 1
        if sign == 1:
            self._accept("+")
        text = self._expect("number").text
        if text[:2] in ("0x", "0X"):
            return sign * int(text, 16)
        try:
            return sign * int(text, 8 if text.startswith("0") else 10)
        except ValueError:
            raise self._error(f"{text} is not a number") from None

    def _trace_block(self) -> None:
        line = self._peek().line
        entries = self._block()
        if (entries.get("major", 1), entries.get("minor", 8)) != (1, 8):
            raise self._error("the trace is not CTF 1.8", line)
        self._model.byte_order = self._byte_order(entries.get("byte_order"), line) or "le"
        if "uuid" in entries:
            self._model.uuid = self._uuid(entries["uuid"], line)
        self._model.packet_header = self._struct_entry(entries, "packet.header", line)
        self._has_trace = True

    def _env_block(self) -> None:
        self._model.env.update(self._block())

    def _clock_block(self) -> None:
        line = self._peek().line
        entries = self._block()
        clock = Clock()
        clock.name = self._text(entries, "name", line)
        for key in ("freq", "offset_s", "offset"):
            if key in entries:
                setattr(clock, key, self._integer(entries, key, line))
        if clock.freq <= 0 or clock.offset < 0:
            raise self._error("a clock's freq must be positive and its offset not negative", line)
        clock.absolute = str(entries.get("absolute", "0")).lower() in ("1", "true")
        clock.description = str(entries.get("description", ""))
        if "uuid" in entries:
            clock.uuid = self._uuid(entries["uuid"], line)
        self._model.clocks[clock.name] = clock

    def _stream_block(self) -> None:
        line = self._peek().line
        entries = self._block()
        stream = Stream(self._id(entries, "id", line))
        if stream.id in self._model.streams:
            raise self._error(f"stream {stream.id} is declared twice", line)
        stream.packet_context = self._struct_entry(entries, "packet.context", line)
        stream.event_header = self._struct_entry(entries, "event.header", line)
        stream.event_context = self._struct_entry(entries, "event.context", line)
        self._model.streams[stream.id] = stream

    def _event_block(self) -> None:
        line = self._peek().line
        entries = self._block()
        event = Event()
        event.id = self._id(entries, "id", line)
        event.name = self._text(entries, "name", line)
        event.stream_id = self._id(entries, "stream_id", line)
        event.context = self._struct_entry(entries, "context", line)
        event.fields = self._struct_entry(entries, "fields", line)
        self._events.append((event, line))

    def _struct_entry(self, entries: dict, key: str, line: int) -> Struct | None:
        kind = entries.get(key)
        if kind is not None and not isinstance(kind, Struct):
            raise self._error(f"{key} is not a structure", line)
        return kind

    def _id(self, entries: dict, key: str, line: int) -> int:
        """Of a stream or an event; 0 if there is none."""
        number = self._integer(entries, key, line) if key in entries else 0
        if not 0 <= number < 1 << 64:
            raise self._error(f"{key} {number} is out of range", line)
        return number

    def _integer(self, entries: dict, key: str, line: int) -> int:
        if not isinstance(entries.get(key), int):
            raise self._error(f"{key} is not a number", line)
        return entries[key]

    def _text(self, entries: dict, key: str, line: int) -> str:
        if not isinstance(entries.get(key), str):
            raise self._error(f"{key} is missing or not text", line)
        return entries[key]

    def _uuid(self, value: int | str, line: int) -> bytes:
        try:
            return uuids.UUID(str(value)).bytes
        except ValueError:
            raise self._error(f"{value!r} is not a UUID", line) from None

    def _byte_order(self, value: int | str | None, line: int) -> str | None:
        orders = {"le": "le", "be": "be", "network": "be", "native": None, None: None}
        if value not in orders:
            raise self._error(f"byte_order {value!r} is not le, be, network or native", line)
        return orders[value]

    # -- declarations --

    def _declaration(self) -> None:
        word = self._peek().text
        if word == "typealias":
            self._take()
            kind = self._whole_type()
            self._expect(":=")
            name = self._words()
            self._define("alias", name, _named(kind, name))
        elif word == "typedef":
            self._take()
            for name, kind in self._declarators():
                self._define("alias", name, _named(kind, name))
        elif word in ("struct", "enum", "variant"):
            self._specifier()
        else:
            raise self._error(f"{word!r} is not supported here")
        self._expect(";")

    def _define(self, kind: str, name: str, type_: Type) -> None:
        self._scope.types[kind, name] = type_

    def _words(self) -> str:
        words = [self._expect("name").text]
        while self._peek().kind == "name":
            words.append(self._take().text)
        return " ".join(word for word in words if word != "const")

    # -- types --

    def _whole_type(self) -> Type:
        """A type that is not followed by a field's name, as in ``:= type;``."""
        if self._is_specifier():
            kind = self._specifier()
        else:
            line = self._peek().line
            kind = self._alias(self._words(), line)
        return self._suffixed(kind)

    def _is_specifier(self) -> bool:
        return self._peek().text in ("integer", "floating_point", "string", "enum", "struct", "variant")

    def _specifier(self) -> Type:
        if self._depth == _MAX_DEPTH:
            raise self._error(f"types are nested more than {_MAX_DEPTH} deep")
        self._depth += 1
        kind = getattr(self, "_" + self._take().text + "_type")()
        self._depth -= 1
        return kind

    def _alias(self, name: str, line: int) -> Type:
        kind = self._scope.find("alias", name)
        if kind is None:
            raise self._error(f"type {name!r} is not declared", line)
        return kind

    def _declarators(self) -> list[tuple[str, Type]]:
        """``type name [length]..., name...`` without the semicolon."""
        if self._is_specifier():
            base = self._specifier()
        else:
            base = self._alias_before_name()
        declared = []
        while True:
            name = self._expect("name").text
            declared.append((name, self._suffixed(base)))
            if not self._accept(","):
                return declared

    def _alias_before_name(self) -> Type:
        line = self._peek().line
        words = []
        while self._peek().kind == "name" and self._peek_after().kind == "name":
            words.append(self._take().text)
        if self._peek_after().kind == "*":
            raise self._error("pointers are not supported")
        if not words:
            raise self._error(f"expected a type and a name at {self._peek().text!r}", line)
        return self._alias(" ".join(word for word in words if word != "const"), line)

    def _suffixed(self, kind: Type) -> Type:
        """Array and sequence lengths after a name; the last bracket is the innermost."""
        lengths = []
        while self._peek().kind == "[":
            line = self._take().line
            lengths.append((self._value(), line))
            self._expect("]")
        for length, line in reversed(lengths):
            if isinstance(length, int):
                if length < 0:
                    raise self._error("an array's length is negative", line)
                kind = Array(kind, length)
            else:
                kind = Sequence(kind, length, line)
        return kind

    def _attributes(self) -> dict[str, int | str]:
        entries: dict = {}
        self._expect("{")
        while not self._accept("}"):
            self._entry(entries)
        return entries

    def _align(self, value: int | str, line: int) -> int:
        if not isinstance(value, int) or not 0 < value <= _MAX_ALIGN or value & (value - 1):
            raise self._error(f"alignment {value!r} is not a power of two within 1..{_MAX_ALIGN}", line)
        return value

    def _default_align(self, size: int) -> int:
        return 1 if size % 8 else 8

    def _integer_type(self) -> Integer:
        line = self._peek().line
        entries = self._attributes()
        size = self._integer(entries, "size", line)
        if not 0 < size <= 64:
            raise self._error(f"integers of {size} bits are not supported", line)
        encoding = str(entries.get("encoding", "none")).lower().replace("-", "")
        return Integer(
            size,
            signed=str(entries.get("signed", "0")).lower() in ("1", "true"),
            align=self._align(entries.get("align", self._default_align(size)), line),
            byte_order=self._byte_order(entries.get("byte_order"), line),
            encoding=encoding if encoding in ("utf8", "ascii") else None,
            clock=self._clock_of(entries.get("map"), line),
            base=16 if str(entries.get("base", 10)) in _HEXADECIMAL else 10,
        )

    def _clock_of(self, path: int | str | None, line: int) -> str | None:
        if path is None:
            return None
        match = re.fullmatch(r"clock\.(.+)\.value", str(path))
        if match is None:
            raise self._error(f"map = {path} is not clock.NAME.value", line)
        return match.group(1)

    def _floating_point_type(self) -> Float:
        line = self._peek().line
        entries = self._attributes()
        digits = entries.get("exp_dig"), entries.get("mant_dig")
        if digits not in ((8, 24), (11, 53)):
            raise self._error(f"floating-point numbers of {digits} digits are not supported", line)
        size = sum(digits)
        align = self._align(entries.get("align", self._default_align(size)), line)
        return Float(size, align, self._byte_order(entries.get("byte_order"), line))

    def _string_type(self) -> String:
        if self._peek().kind == "{":
            self._attributes()
        return String()

    def _struct_type(self) -> Struct:
        name = self._accept_name()
        if self._peek().kind != "{":
            return self._known("struct", name)
        self._take()
        self._scope = _Scope(self._scope)
        members = self._members()
        self._scope = self._scope.parent
        align = 1
        if self._peek().text == "align":
            line = self._take().line
            self._expect("(")
            align = self._align(self._number(), line)
            self._expect(")")
        return self._remembered("struct", name, Struct(tuple(members), align))

    def _members(self) -> list[tuple[str, Type]]:
        members: list[tuple[str, Type]] = []
        seen = set()
        while not self._accept("}"):
            if self._peek().text in ("typealias", "typedef"):
                self._declaration()
                continue
            line = self._peek().line
            for name, kind in self._declarators():
                if name in seen:
                    raise self._error(f"member {name!r} appears twice", line)
                seen.add(name)
                members.append((name, kind))
            self._expect(";")
        return members

    def _enum_type(self) -> Enum:
        line = self._peek().line
        name = self._accept_name()
        container: Type | None = None
        if self._accept(":"):
            container = self._specifier() if self._is_specifier() else self._alias(self._words(), line)
        if self._peek().kind != "{":
            return self._known("enum", name)
        if container is None:
            container = self._alias("int", line)
        if not isinstance(container, Integer):
            raise self._error("the container of an enumeration is not an integer", line)
        return self._remembered("enum", name, Enum(container, tuple(self._labels())))

    def _labels(self) -> list[tuple[str, int, int]]:
        labels: list[tuple[str, int, int]] = []
        value = 0
        self._expect("{")
        while not self._accept("}"):
            token = self._take()
            if token.kind not in ("name", "string"):
                raise self._error(f"{token.text!r} is not a label", token.line)
            label = _unescape(token.text) if token.kind == "string" else token.text
            low = high = self._number() if self._accept("=") else value
            if self._accept("..."):
                high = self._number()
            labels.append((label, low, high))
            value = high + 1
            if self._peek().kind != "}":
                self._expect(",")
        return labels

    def _variant_type(self) -> Variant:
        line = self._peek().line
        name = self._accept_name()
        tag = None
        if self._accept("<"):
            tag = str(self._value())
            self._expect(">")
        if self._peek().kind != "{":
            return replace(self._known("variant", name), tag=tag, line=line)
        self._take()
        self._scope = _Scope(self._scope)
        options = tuple(self._members())
        self._scope = self._scope.parent
        if not options:
            raise self._error("a variant has no options", line)
        return self._remembered("variant", name, Variant(tag, options, line))

    def _accept_name(self) -> str | None:
        return self._take().text if self._peek().kind == "name" else None

    def _known(self, kind: str, name: str | None):
        type_ = self._scope.find(kind, name) if name else None
        if type_ is None:
            raise self._error(f"{kind} {name or ''} is not declared")
        return type_

    def _remembered(self, kind: str, name: str | None, type_):
        if name:
            self._define(kind, name, type_)
        return type_


def _named(kind: Type, name: str) -> Type:
    return replace(kind, alias=name) if isinstance(kind, Integer) else kind
