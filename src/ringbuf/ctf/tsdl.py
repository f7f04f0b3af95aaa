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

from ..errors import TraceError
from .model import (
    CPU,
    MAX_ALIGN,
    MAX_DEPTH,
    Array,
    Clock,
    Enum,
    Event,
    Float,
    Integer,
    Sequence,
    Stream,
    String,
    Struct,
    Trace,
    Type,
    Variant,
)

__all__ = ["FIRST_LINE", "parse", "text_of"]

#: What a text metadata file starts with.
FIRST_LINE = "/* CTF 1.8 */"

_METADATA_MAGIC = 0x75D11D57
_BASES = {
    2: ("2", "binary", "b"),
    8: ("8", "octal", "oct", "o"),
    10: ("10", "decimal", "dec", "d", "i", "u"),
    16: ("16", "hexadecimal", "hex", "x", "X", "p"),
}
#: No member and no type of one word can be called so.
_KEYWORDS = frozenset(
    "align callsite const char clock double enum env event floating_point float integer int long short signed"
    " stream string struct trace typealias typedef unsigned variant void _Bool _Complex _Imaginary".split()
)
#: What types of C are called, in any order.
_TYPE_WORDS = _KEYWORDS & {"char", "double", "float", "int", "long", "short", "signed", "unsigned", "_Bool"}
#: Roles of members, by the structure and the member's name.
_ROLES = {
    "trace.packet.header": {
        "magic": "packet-magic-number",
        "uuid": "metadata-stream-uuid",
        "stream_id": "data-stream-class-id",
        "stream_instance_id": "data-stream-id",
    },
    "stream.packet.context": {
        "timestamp_begin": "default-clock-timestamp",
        "timestamp_end": "packet-end-default-clock-timestamp",
        "content_size": "packet-content-length",
        "packet_size": "packet-total-length",
        "packet_seq_num": "packet-sequence-number",
        "events_discarded": "discarded-event-record-counter-snapshot",
        "cpu_id": CPU,
    },
}


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
        return  # CTF 2
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
      | "(?P<string>(?:\\.|[^\\"\n])*)"
      | '(?P<character>(?:\\(?:[0-7]{1,3}|x[0-9A-Fa-f]{1,2}|.)|[^\\'\n]))'
      | (?P<mark>\.\.\.|:=|[{}\[\]()<>;:,.=*+-])""",
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9A-Fa-f]{1,3})|(.))", re.DOTALL)
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def _tokens(text: str) -> list[_Token]:
    tokens, position, line = [], 0, 1
    if "\0" in text:
        raise TraceError(f"metadata line {text.count(chr(10), 0, text.index(chr(0))) + 1}: a NUL is not TSDL")
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            reason = "has no end" if text[position] in "\"'" or text.startswith("/*", position) else "is not TSDL"
            raise TraceError(f"metadata line {line}: {text[position]!r} {reason}")
        kind = match.lastgroup
        if kind != "space":
            value = match.group(kind)
            kind = {"mark": value, "character": "string"}.get(kind, kind)
            tokens.append(_Token(kind, value, line))
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
        self._give_roles()
        return self._model

    def _give_roles(self) -> None:
        model = self._model
        model.packet_header = _with_roles(model.packet_header, _ROLES["trace.packet.header"])
        for stream in model.streams.values():
            context = _with_roles(stream.packet_context, _ROLES["stream.packet.context"])
            stream.packet_context = self._with_clock(context, ("timestamp_begin", "timestamp_end"))
            header = self._with_clock(stream.event_header, ("timestamp",))
            stream.event_header = None if header is None else _with_event_roles(header)
            stream.clock = clock_in(stream.event_header) or clock_in(stream.packet_context)

    def _with_clock(self, kind: Type | None, names: tuple[str, ...]) -> Type | None:
        """The same with the only clock there is for times that name none; as other readers do."""
        if isinstance(kind, Struct):
            members = ((name, self._with_clock_at(name, member, names)) for name, member in kind.members)
            return replace(kind, members=tuple(members))
        if isinstance(kind, Variant):
            options = ((name, self._with_clock_at(name, option, names)) for name, option in kind.options)
            return replace(kind, options=tuple(options))
        return kind

    def _with_clock_at(self, name: str, kind: Type, names: tuple[str, ...]) -> Type:
        if name not in names or not isinstance(kind, (Integer, Enum)) or clock_in(kind):
            return self._with_clock(kind, names)
        clocks = self._model.clocks
        if not clocks:
            clocks["default"] = Clock("default")
        if len(clocks) > 1:
            return kind
        return _mapped(kind, next(iter(clocks)))

    def _place_events(self) -> None:
        streams = self._model.streams
        for event, line in self._events:
            if event.stream_id is None:
                if len(streams) > 1:
                    raise self._error("the event has no stream_id, and there are several streams", line)
                event.stream_id = next(iter(streams), 0)
            # A trace whose only stream has no id of its own may leave out its block.
            stream = streams.setdefault(event.stream_id, Stream(event.stream_id))
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
        if key in entries:
            raise self._error(f"{key} is given twice")
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
        return self._path()

    def _path(self) -> str:
        """A dotted name."""
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
        if "precision" in entries:
            clock.precision = self._integer(entries, "precision", line)
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
        # Of several streams it must name one: see _place_events().
        event.stream_id = self._id(entries, "stream_id", line) if "stream_id" in entries else None
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
            self._check_name(name if name not in _TYPE_WORDS else "")
            self._define("alias", name, _named(kind, name))
        elif word == "typedef":
            self._take()
            for name, kind in self._declarators():
                self._define("alias", name, _named(kind, name))
        elif word in ("struct", "enum", "variant"):
            while self._peek().text in ("struct", "enum", "variant"):
                self._specifier()
        else:
            raise self._error(f"{word!r} is not supported here")
        self._expect(";")

    def _define(self, kind: str, name: str, type_: Type) -> None:
        if (kind, name) in self._scope.types:
            raise self._error(f"{'type' if kind == 'alias' else kind} {name} is declared twice")
        self._scope.types[kind, name] = type_

    def _check_name(self, name: str) -> None:
        if name in _KEYWORDS:
            raise self._error(f"{name!r} is a keyword: it cannot be a name")

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
        if self._depth == MAX_DEPTH:
            raise self._error(f"types are nested more than {MAX_DEPTH} deep")
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
            self._check_name(name)
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
            if self._peek().kind not in ("name", "number", "+", "-"):
                raise self._error(f"{self._peek().text!r} is no length")
            lengths.append((self._length(self._value(), line), line))
            self._expect("]")
        for length, line in reversed(lengths):
            if isinstance(length, int):
                if length < 0:
                    raise self._error("an array's length is negative", line)
                kind = Array(kind, length)
            else:
                kind = Sequence(kind, length, f"line {line}")
        return kind

    def _length(self, length: int | str, line: int) -> int | str:
        """``env.NAME`` is the number that the environment has under that name."""
        if not isinstance(length, str):
            return length
        self._check_name(length)
        if not length.startswith("env."):
            return length
        number = self._model.env.get(length[4:])
        if not isinstance(number, int):
            raise self._error(f"{length} is not a number of an env block before it", line)
        return number

    def _attributes(self) -> dict[str, int | str]:
        entries: dict = {}
        self._expect("{")
        while not self._accept("}"):
            self._entry(entries)
        return entries

    def _align(self, value: int | str, line: int) -> int:
        if not isinstance(value, int) or not 0 < value <= MAX_ALIGN or value & (value - 1):
            raise self._error(f"alignment {value!r} is not a power of two within 1..{MAX_ALIGN}", line)
        return value

    def _default_align(self, size: int) -> int:
        return 1 if size % 8 else 8

    def _integer_type(self) -> Integer:
        line = self._peek().line
        entries = self._attributes()
        size = self._integer(entries, "size", line)
        if not 0 < size <= 64:
            raise self._error(f"integers of {size} bits are not supported", line)
        return Integer(
            size,
            signed=self._boolean(entries, "signed", line),
            align=self._align(entries.get("align", self._default_align(size)), line),
            byte_order=self._byte_order(entries.get("byte_order"), line),
            encoding=self._encoding(entries, line),
            clock=self._clock_of(entries.get("map"), line),
            base=self._base(entries.get("base", 10), line),
        )

    def _boolean(self, entries: dict, key: str, line: int) -> bool:
        value = str(entries.get(key, 0)).lower()
        if value not in ("0", "1", "false", "true"):
            raise self._error(f"{key} {value} is neither true nor false", line)
        return value in ("1", "true")

    def _encoding(self, entries: dict, line: int) -> str | None:
        encoding = str(entries.get("encoding", "none"))
        known = {"none": None, "utf8": "utf8", "utf-8": "utf8", "ascii": "ascii"}
        if encoding.lower() not in known:
            raise self._error(f"encoding {encoding} is not none, UTF8 or ASCII", line)
        return known[encoding.lower()]

    def _base(self, value: int | str, line: int) -> int:
        for base, names in _BASES.items():
            if str(value) in names:
                return base
        raise self._error(f"base {value} is not 2, 8, 10 or 16", line)

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
        line = self._peek().line
        if self._peek().kind == "{":
            self._encoding(self._attributes(), line)
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
        return self._remembered("enum", name, Enum(container, tuple(self._labels(container))))

    def _labels(self, container: Integer) -> list[tuple[str, int, int]]:
        labels: list[tuple[str, int, int]] = []
        value = 0
        lowest, highest = _range_of(container)
        self._expect("{")
        while not self._accept("}"):
            token = self._take()
            if token.kind not in ("name", "string"):
                raise self._error(f"{token.text!r} is not a label", token.line)
            label = _unescape(token.text) if token.kind == "string" else token.text
            low = high = self._number() if self._accept("=") else value
            if self._accept("..."):
                high = self._number()
            if low > high:
                raise self._error(f"label {label}: {low} ... {high} is no range", token.line)
            if low < lowest or high > highest:
                raise self._error(f"label {label}: its value does not fit {container.size} bits", token.line)
            labels.append((label, low, high))
            value = high + 1
            if self._peek().kind != "}":
                self._expect(",")
        if not labels:
            raise self._error("an enumeration has no labels")
        return labels

    def _variant_type(self) -> Variant:
        line = self._peek().line
        name = self._accept_name()
        tag = None
        if self._accept("<"):
            tag = self._path()
            self._check_name(tag)
            self._expect(">")
        if self._peek().kind != "{":
            return replace(self._known("variant", name), tag=tag, where=f"line {line}")
        self._take()
        self._scope = _Scope(self._scope)
        options = tuple(self._members())
        self._scope = self._scope.parent
        if not options:
            raise self._error("a variant has no options", line)
        return self._remembered("variant", name, Variant(tag, options, f"line {line}"))

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


def _range_of(kind: Integer) -> tuple[int, int]:
    """Lowest and highest value."""
    return (-(1 << kind.size - 1), (1 << kind.size - 1) - 1) if kind.signed else (0, (1 << kind.size) - 1)


# ---- what members mean ----


def clock_in(kind: Type | None) -> str | None:
    """Name of the clock that some integer within `kind` counts, or None."""
    if isinstance(kind, Integer):
        return kind.clock
    if isinstance(kind, Enum):
        return kind.container.clock
    parts = kind.members if isinstance(kind, Struct) else kind.options if isinstance(kind, Variant) else ()
    return next((clock for clock in (clock_in(part) for _, part in parts) if clock is not None), None)


def _mapped(kind: Integer | Enum, clock: str) -> Integer | Enum:
    if isinstance(kind, Enum):
        return replace(kind, container=replace(kind.container, clock=clock))
    return replace(kind, clock=clock)


def _with_roles(kind: Struct | None, roles: dict[str, str]) -> Struct | None:
    """The same with roles for the members that have one."""
    if kind is None:
        return None
    return replace(
        kind, members=tuple((name, _checked(name, member, roles.get(name))) for name, member in kind.members)
    )


def _checked(name: str, kind: Type, role: str | None) -> Type:
    """The member of a packet's header or context with its role, if it can have that."""
    if role is None:
        return kind
    if role == "metadata-stream-uuid":
        if not isinstance(kind, Array) or kind.length != 16 or not _is_unsigned(kind.element, 8):
            raise TraceError(f"metadata: the packets' {name} is not an array of 16 bytes")
    elif role != CPU and not _is_unsigned(kind):
        raise TraceError(f"metadata: the packets' {name} is not an unsigned integer")
    return _with_role(kind, role)


def _is_unsigned(kind: Type, size: int | None = None) -> bool:
    integer = kind.container if isinstance(kind, Enum) else kind
    return isinstance(integer, Integer) and not integer.signed and size in (None, integer.size)


def _with_role(kind: Type, role: str) -> Type:
    if isinstance(kind, Enum):
        return replace(kind, container=_with_role(kind.container, role))
    return replace(kind, role=role) if isinstance(kind, (Integer, Array)) else kind


def _with_event_roles(kind: Type, name: str = "") -> Type:
    """The same with roles for the id and the time, which may stand in an option of a variant."""
    if isinstance(kind, Struct):
        return replace(kind, members=tuple((one, _with_event_roles(member, one)) for one, member in kind.members))
    if isinstance(kind, Variant):
        return replace(kind, options=tuple((one, _with_event_roles(option, one)) for one, option in kind.options))
    if clock_in(kind):
        return _with_role(kind, "default-clock-timestamp")
    return _with_role(kind, "event-record-class-id") if name == "id" else kind
