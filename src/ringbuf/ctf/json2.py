"""The metadata of CTF 2: JSON in, a model of the trace's types out.

A metadata stream is a sequence of JSON objects ("fragments"), each after a U+001E (RFC 7464).
The rules of CTF2-SPEC-2.0 are checked; what breaks one is a `TraceError` that names the
object, as in ``metadata: event record class 3 (stream 0): payload: member 'x': length 0``.

No extension is known here, so a trace that declares one cannot be read: an extension may
change how data are decoded. Attributes cannot, and are kept as they are.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace

from ..errors import TraceError
from .model import (
    BYTES,
    CPU,
    MAX_ALIGN,
    MAX_DEPTH,
    Array,
    Bits,
    Blob,
    Boolean,
    Clock,
    Enum,
    Event,
    Float,
    Integer,
    Location,
    Optional,
    Sequence,
    Stream,
    String,
    Struct,
    Text,
    Trace,
    Type,
    Variant,
    VarInteger,
)

__all__ = ["ORIGINS", "is_json", "parse"]

_SEPARATOR = "\x1e"
#: Of objects and arrays, in attributes as well. Deeper than `MAX_DEPTH` types in each other are.
_MAX_JSON_DEPTH = 8 * MAX_DEPTH
_INTEGERS = -(2**63), 2**64 - 1
_SPACE = re.compile(r"[\x1e\s]*")
_MARKS = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|\x1e', re.DOTALL)

#: Structures of packets and events, by the names of `Location.origin`.
ORIGINS = {
    "packet-header": "trace.packet.header",
    "packet-context": "stream.packet.context",
    "event-record-header": "stream.event.header",
    "event-record-common-context": "stream.event.context",
    "event-record-specific-context": "event.context",
    "event-record-payload": "event.fields",
}
#: Which roles mean something, by the property that has the structure.
_ROLES = {
    "packet-header-field-class": (
        "packet-magic-number",
        "metadata-stream-uuid",
        "data-stream-class-id",
        "data-stream-id",
    ),
    "packet-context-field-class": (
        "default-clock-timestamp",
        "packet-end-default-clock-timestamp",
        "packet-content-length",
        "packet-total-length",
        "packet-sequence-number",
        "discarded-event-record-counter-snapshot",
    ),
    "event-record-header-field-class": ("default-clock-timestamp", "event-record-class-id"),
}
_CLOCK_ROLES = ("default-clock-timestamp", "packet-end-default-clock-timestamp")
_ENCODINGS = ("utf-8", "utf-16be", "utf-16le", "utf-32be", "utf-32le")
_ORDERS = {"little-endian": "le", "big-endian": "be"}
#: Every object may have these as well.
_COMMON = ("attributes", "extensions")


def is_json(text: str) -> bool:
    """Whether metadata are those of CTF 2."""
    return text.lstrip()[:1] in (_SEPARATOR, "{")


def parse(text: str) -> Trace:
    """Read a metadata stream.

    Parameters
    ----------
    text : str
        One fragment or more.

    Returns
    -------
    Trace

    Raises
    ------
    TraceError
        It is no JSON, or breaks a rule of CTF 2; says where.
    """
    reader = _Reader()
    for number, (line, value) in enumerate(_fragments(text)):
        reader.fragment(value, f"fragment {number} (line {line})")
    return reader.trace()


# ---- JSON ----


class _Refused(ValueError):
    """Of a value that JSON allows."""


def _fragments(text: str):
    """(line, value) of each JSON text."""
    decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_constant=_constant)
    position, line, counted = 0, 1, 0
    while True:
        position = _SPACE.match(text, position).end()
        line, counted = line + text.count("\n", counted, position), position
        if position == len(text):
            return
        _check_depth(text, position, line)
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise TraceError(f"metadata line {error.lineno}, column {error.colno}: {error.msg}: no JSON") from None
        except _Refused as error:
            raise TraceError(f"metadata: the object that begins in line {line}: {error}") from None
        yield line, value


def _check_depth(text: str, position: int, line: int) -> None:
    """Python's own parser would run out of stack."""
    depth = 0
    for match in _MARKS.finditer(text, position):
        mark = match.group()
        if mark == _SEPARATOR:
            return
        depth += (mark in "[{") - (mark in "]}") if len(mark) == 1 else 0
        if depth > _MAX_JSON_DEPTH:
            line += text.count("\n", position, match.start())
            raise TraceError(f"metadata line {line}: JSON is nested more than {_MAX_JSON_DEPTH} deep")
        if depth == 0:
            return


def _object(pairs: list) -> dict:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _Refused(f"the key {_short(key)} stands twice in one object")
            seen.add(key)
    return values


def _integer(digits: str) -> int:
    value = int(digits) if len(digits) <= 20 else None
    if value is None or not _INTEGERS[0] <= value <= _INTEGERS[1]:
        raise _Refused(f"the number {_short(digits)} does not fit 64 bits")
    return value


def _constant(name: str):
    raise _Refused(f"{name} is no JSON")


def _short(value) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- objects ----


class _Object:
    """A JSON object whose properties are checked as they are taken. `where` names it in errors."""

    def __init__(self, value, where: str) -> None:
        if not isinstance(value, dict):
            raise _error(where, f"{_short(value)} is not an object")
        self.value, self.where = value, where

    def error(self, reason: str) -> TraceError:
        return _error(self.where, reason)

    def check_keys(self, *known: str) -> None:
        for key in self.value:
            if key not in known and key not in _COMMON:
                raise self.error(f"there is no property {_short(key)}")

    def required(self, key: str):
        if key not in self.value:
            raise self.error(f"{key} is missing")
        return self.value[key]

    def text(self, key: str, default: str | None = None) -> str | None:
        value = self.value.get(key, default)
        if value is not default and not isinstance(value, str):
            raise self.error(f"{key} {_short(value)} is not a string")
        return value

    def integer(self, key: str, default: int | None = None, *, least: int | None = 0) -> int | None:
        value = self.value.get(key, default)
        if value is default:
            return default
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(f"{key} {_short(value)} is not an integer")
        if least is not None and value < least:
            raise self.error(f"{key} {value} is less than {least}")
        return value

    def required_text(self, key: str) -> str:
        self.required(key)
        return self.text(key)

    def required_integer(self, key: str, *, least: int | None = 0) -> int:
        self.required(key)
        return self.integer(key, least=least)

    def one_of(self, key: str, choices, default=None):
        value = self.value.get(key, default)
        if value is not default and (isinstance(value, (dict, list)) or value not in choices):
            raise self.error(f"{key} {_short(value)} is not one of {', '.join(map(str, choices))}")
        return value

    def array(self, key: str, default=()) -> list:
        value = self.value.get(key, default)
        if value is not default and not isinstance(value, list):
            raise self.error(f"{key} {_short(value)} is not an array")
        return value

    def object(self, key: str) -> dict:
        value = self.value.get(key, {})
        if not isinstance(value, dict):
            raise self.error(f"{key} {_short(value)} is not an object")
        return value

    def alignment(self, key: str) -> int:
        value = self.integer(key, 1, least=1)
        if value & (value - 1) or value > MAX_ALIGN:
            raise self.error(f"{key} {value} is not a power of two within 1..{MAX_ALIGN}")
        return value

    def ranges(self, value) -> tuple[tuple[int, int], ...]:
        """An integer range set."""
        if not isinstance(value, list) or not value:
            raise self.error(f"{_short(value)} is not an array of ranges")
        for one in value:
            is_pair = isinstance(one, list) and len(one) == 2
            if not is_pair or not all(isinstance(bound, int) and not isinstance(bound, bool) for bound in one):
                raise self.error(f"{_short(one)} is not a range of two integers")
            if one[0] > one[1]:
                raise self.error(f"the range {one} ends before it begins")
        return tuple((low, high) for low, high in value)

    def named_ranges(self, key: str) -> tuple[tuple[str, int, int], ...]:
        """Mappings of an integer, flags of a bit map."""
        found = []
        for name, value in self.object(key).items():
            part = _Object({}, f"{self.where}: {key} {_short(name)}")
            found += [(name, low, high) for low, high in part.ranges(value)]
        return tuple(found)


def _error(where: str, reason: str) -> TraceError:
    return TraceError(f"metadata: {where}: {reason}")


# ---- fragments ----


class _Reader:
    """Takes the fragments in their order."""

    def __init__(self) -> None:
        self._model = Trace(version=2)
        self._aliases: dict[str, Type] = {}
        self._has_preamble = self._has_trace_class = False
        self._roles: tuple[str, ...] = ()  # that mean something where a field class is read
        self._clock: str | None = None  # of the stream class in hand
        self._depth = 0
        self._fragments = {
            "preamble": self._preamble,
            "field-class-alias": self._alias,
            "trace-class": self._trace_class,
            "clock-class": self._clock_class,
            "data-stream-class": self._stream_class,
            "event-record-class": self._event_class,
        }

    def trace(self) -> Trace:
        if not self._has_preamble:
            raise TraceError("metadata: there is no preamble")
        return self._model

    def fragment(self, value, where: str) -> None:
        one = _Object(value, where)
        kind = one.required_text("type")
        if kind not in self._fragments:
            raise one.error(f"there is no fragment of the type {_short(kind)}")
        if (kind == "preamble") == self._has_preamble:
            raise one.error("the preamble is the first fragment, and the only one of its type")
        if kind != "preamble":
            self._check_extensions(one)
        self._fragments[kind](one)

    def _preamble(self, one: _Object) -> None:
        one.check_keys("type", "version", "uuid")
        if one.required_integer("version", least=None) != 2:
            raise one.error(f"version {one.value['version']} is not 2")
        if "uuid" in one.value:
            self._model.uuid = _uuid(one)
        for namespace, names in one.object("extensions").items():
            for name in _Object(names, f"{one.where}: extensions {_short(namespace)}").value:
                raise one.error(f"the trace needs the extension {name!r} of {namespace!r}, which is not known")
        self._has_preamble = True

    def _check_extensions(self, one: _Object) -> None:
        for namespace, names in one.object("extensions").items():
            for name in _Object(names, f"{one.where}: extensions {_short(namespace)}").value:
                raise one.error(f"the preamble does not declare the extension {name!r} of {namespace!r}")
        one.object("attributes")

    def _alias(self, one: _Object) -> None:
        one.check_keys("type", "name", "field-class")
        name = one.required_text("name")
        one.where = f"field class alias {name!r}"
        if name in self._aliases:
            raise one.error("it is declared twice")
        # What its roles mean is known only where it is used.
        self._roles = tuple(role for roles in _ROLES.values() for role in roles)
        self._clock = ""
        self._aliases[name] = self._field_class(one.required("field-class"), one.where)

    def _trace_class(self, one: _Object) -> None:
        one.check_keys("type", "namespace", "name", "uid", "environment", "packet-header-field-class")
        one.where = "trace class"
        if self._has_trace_class or self._model.streams:
            raise one.error("there is one at most, before all data stream classes")
        self._has_trace_class = True
        types = self._model
        types.namespace, types.name, types.uid = (one.text(key) for key in ("namespace", "name", "uid"))
        types.attributes = one.object("attributes")
        for name, value in one.object("environment").items():
            if not isinstance(value, (int, str)) or isinstance(value, bool):
                raise one.error(f"environment {_short(name)}: {_short(value)} is neither an integer nor a string")
            types.env[name] = value
        types.packet_header = self._root(one, "packet-header-field-class")
        self._check_packet_header(one)

    def _check_packet_header(self, one: _Object) -> None:
        members = self._model.packet_header.members if self._model.packet_header else ()
        for index, (name, member) in enumerate(members):
            role = getattr(member, "role", None)
            if role == "packet-magic-number" and (index or getattr(member, "size", 0) != 32):
                raise one.error(f"member {name!r}: the magic number is the first member, and has 32 bits")
            if role == "metadata-stream-uuid" and self._model.uuid is None:
                raise one.error(f"member {name!r}: the preamble has no uuid")

    def _clock_class(self, one: _Object) -> None:
        one.check_keys(
            "type", "id", "namespace", "name", "uid", "frequency", "origin", "offset-from-origin", "precision",
            "accuracy", "description",
        )  # fmt: skip
        name = one.required_text("id")
        one.where = f"clock class {name!r}"
        if name in self._model.clocks:
            raise one.error("it is declared twice")
        clock = Clock(one.text("name") or name, one.required_integer("frequency", least=1))
        clock.namespace, clock.uid = one.text("namespace"), one.text("uid")
        clock.description = one.text("description", "")
        clock.precision, clock.accuracy = one.integer("precision"), one.integer("accuracy")
        clock.attributes = one.object("attributes")
        offset = _Object(one.object("offset-from-origin"), f"{one.where}: offset-from-origin")
        offset.check_keys("seconds", "cycles")
        clock.offset_s, clock.offset = offset.integer("seconds", 0, least=None), offset.integer("cycles", 0)
        if clock.offset >= clock.freq:
            raise offset.error(f"cycles {clock.offset} is not less than the frequency {clock.freq}")
        self._set_origin(clock, one)
        self._model.clocks[name] = clock

    def _set_origin(self, clock: Clock, one: _Object) -> None:
        origin = one.value.get("origin")
        if origin == "unix-epoch":
            clock.absolute = True
        elif "origin" in one.value:
            part = _Object(origin, f"{one.where}: origin")
            part.check_keys("namespace", "name", "uid")
            clock.origin = part.text("namespace"), part.required_text("name"), part.required_text("uid")

    def _stream_class(self, one: _Object) -> None:
        one.check_keys(
            "type", "id", "namespace", "name", "uid", "default-clock-class-id", "packet-context-field-class",
            "event-record-header-field-class", "event-record-common-context-field-class",
        )  # fmt: skip
        stream = Stream(one.integer("id", 0))
        one.where = f"data stream class {stream.id}"
        if stream.id in self._model.streams:
            raise one.error("it is declared twice")
        stream.namespace, stream.name, stream.uid = (one.text(key) for key in ("namespace", "name", "uid"))
        stream.attributes = one.object("attributes")
        stream.clock = self._clock = one.text("default-clock-class-id")
        if stream.clock is not None and stream.clock not in self._model.clocks:
            raise one.error(f"there is no clock class {stream.clock!r} before it")
        context = self._root(one, "packet-context-field-class")
        stream.packet_context = context and _with_cpu(context)
        stream.event_header = self._root(one, "event-record-header-field-class")
        stream.event_context = self._root(one, "event-record-common-context-field-class")
        self._model.streams[stream.id] = stream

    def _event_class(self, one: _Object) -> None:
        one.check_keys(
            "type", "id", "data-stream-class-id", "namespace", "name", "uid", "specific-context-field-class",
            "payload-field-class",
        )  # fmt: skip
        event = Event(one.integer("id", 0), one.text("name", "<unknown>"), one.integer("data-stream-class-id", 0))
        one.where = f"event record class {event.id} (stream {event.stream_id}, {event.name})"
        stream = self._model.streams.get(event.stream_id)
        if stream is None:
            raise one.error(f"there is no data stream class {event.stream_id} before it")
        if event.id in stream.events:
            raise one.error("it is declared twice")
        event.namespace, event.uid = one.text("namespace"), one.text("uid")
        event.attributes = one.object("attributes")
        event.context = self._root(one, "specific-context-field-class")
        event.fields = self._root(one, "payload-field-class")
        stream.events[event.id] = event

    # -- field classes --

    def _root(self, one: _Object, key: str) -> Struct | None:
        """The structure that a fragment has as a property."""
        if key not in one.value:
            return None
        self._roles = _ROLES.get(key, ())
        if key == "packet-header-field-class":
            self._clock = None
        where = f"{one.where}: {key.removesuffix('-field-class')}"
        kind = self._field_class(one.value[key], where)
        if not isinstance(kind, Struct):
            raise _error(where, "it is not a structure")
        return kind

    def _field_class(self, value, where: str) -> Type:
        """A field class, or the name of an alias."""
        if isinstance(value, str):
            if value not in self._aliases:
                raise _error(where, f"there is no field class alias {_short(value)} before it")
            self._check_roles_in(self._aliases[value], where)
            return self._aliases[value]
        one = _Object(value, where)
        kind = one.required_text("type")
        read = _FIELD_CLASSES.get(kind)
        if read is None:
            raise one.error(f"there is no field class of the type {_short(kind)}")
        self._check_extensions(one)
        if self._depth == MAX_DEPTH:
            raise one.error(f"field classes are nested more than {MAX_DEPTH} deep")
        self._depth += 1
        found = read(self, one)
        self._depth -= 1
        return found

    def _check_roles_in(self, kind: Type, where: str) -> None:
        """Of an alias: whether its roles mean something here."""
        parts = getattr(kind, "members", None) or getattr(kind, "options", None) or ()
        for _, part in parts:
            self._check_roles_in(part, where)
        for part in (getattr(kind, "element", None), getattr(kind, "container", None)):
            if part is not None:
                self._check_roles_in(part, where)
        self._check_role(getattr(kind, "role", None), where)

    def _check_role(self, role: str | None, where: str) -> None:
        if role is None:
            return
        if role not in self._roles:
            raise _error(where, f"the role {_short(role)} means nothing here")
        if role in _CLOCK_ROLES and self._clock is None:
            raise _error(where, f"the role {role}, but the data stream class has no default clock")

    def _role(self, one: _Object) -> str | None:
        roles = one.array("roles")
        for role in roles:
            if not isinstance(role, str):
                raise one.error(f"role {_short(role)} is not a string")
            self._check_role(role, one.where)
        if len(set(roles)) > 1:
            raise one.error("one field with several roles is not supported")
        return roles[0] if roles else None

    def _integer_role(self, one: _Object, *, signed: bool) -> str | None:
        role = self._role(one)
        if role and signed:
            raise one.error(f"a signed integer cannot have the role {role}")
        if role == "metadata-stream-uuid":
            raise one.error(f"the role {role} is that of 16 bytes")
        return role

    def _bits_of(self, one: _Object, *more: str) -> dict:
        """What all field classes of a fixed number of bits have in common."""
        one.check_keys("type", "length", "byte-order", "bit-order", "alignment", *more)
        size = one.required_integer("length", least=1)
        one.required("byte-order")
        order = _ORDERS[one.one_of("byte-order", _ORDERS)]
        usual = "first-to-last" if order == "le" else "last-to-first"
        is_reversed = one.one_of("bit-order", ("first-to-last", "last-to-first"), usual) != usual
        return {"size": size, "align": one.alignment("alignment"), "byte_order": order, "is_reversed": is_reversed}

    def _small_bits_of(self, one: _Object, *more: str) -> dict:
        parts = self._bits_of(one, *more)
        if parts["size"] > 64:
            raise one.error(f"a length of {parts['size']} bits is not supported: 64 at most")
        return parts

    def _bit_array(self, one: _Object) -> Type:
        return Bits(**self._small_bits_of(one))

    def _bit_map(self, one: _Object) -> Type:
        parts = self._small_bits_of(one, "flags")
        one.required("flags")
        flags = one.named_ranges("flags")
        if not flags:
            raise one.error("flags is empty")
        for name, low, _ in flags:
            if low < 0:
                raise one.error(f"flag {_short(name)}: {low} is not the number of a bit")
        return Bits(**parts, flags=flags)

    def _boolean(self, one: _Object) -> Type:
        parts = self._small_bits_of(one)
        del parts["is_reversed"]  # all bits are asked at once
        return Boolean(**parts)

    def _fixed_integer(self, one: _Object) -> Type:
        parts = self._small_bits_of(one, "preferred-display-base", "mappings", "roles")
        signed = one.value["type"] == "fixed-length-signed-integer"
        role = self._integer_role(one, signed=signed)
        if role == "packet-magic-number" and parts["size"] != 32:
            raise one.error(f"the role {role} is that of 32 bits")
        return self._mapped(one, Integer(**parts, signed=signed, base=_base(one), role=role))

    def _variable_integer(self, one: _Object) -> Type:
        one.check_keys("type", "preferred-display-base", "mappings", "roles")
        signed = one.value["type"] == "variable-length-signed-integer"
        role = self._integer_role(one, signed=signed)
        if role == "packet-magic-number":
            raise one.error(f"the role {role} is that of 32 bits")
        return self._mapped(one, VarInteger(signed=signed, base=_base(one), role=role))

    def _mapped(self, one: _Object, kind: Integer | VarInteger) -> Type:
        labels = one.named_ranges("mappings")
        return Enum(kind, labels) if labels else kind

    def _float(self, one: _Object) -> Type:
        parts = self._bits_of(one)
        size = parts["size"]
        if size not in (16, 32, 64, 128) and (size < 128 or size % 32 or size > 2048):
            raise one.error(f"length {size} is not one of 16, 32, 64, 128, or a multiple of 32 above, up to 2048")
        return Float(**parts)

    def _string(self, one: _Object) -> Type:
        one.check_keys("type", "encoding")
        return String(one.one_of("encoding", _ENCODINGS, "utf-8"))

    def _static_text(self, one: _Object) -> Type:
        one.check_keys("type", "encoding", "length")
        return Text(one.required_integer("length"), one.one_of("encoding", _ENCODINGS, "utf-8"), one.where)

    def _dynamic_text(self, one: _Object) -> Type:
        one.check_keys("type", "encoding", "length-field-location")
        location = _location(one, "length-field-location")
        return Text(location, one.one_of("encoding", _ENCODINGS, "utf-8"), one.where)

    def _static_blob(self, one: _Object) -> Type:
        one.check_keys("type", "media-type", "length", "roles")
        length, role = one.required_integer("length"), self._role(one)
        if role not in (None, "metadata-stream-uuid") or role and length != 16:
            raise one.error(f"{length} bytes cannot have the role {role}")
        return Blob(length, one.text("media-type", BYTES), role, one.where)

    def _dynamic_blob(self, one: _Object) -> Type:
        one.check_keys("type", "media-type", "length-field-location")
        location = _location(one, "length-field-location")
        return Blob(location, one.text("media-type", BYTES), None, one.where)

    def _structure(self, one: _Object) -> Type:
        one.check_keys("type", "member-classes", "minimum-alignment")
        members: dict[str, Type] = {}
        for number, value in enumerate(one.array("member-classes")):
            part = _Object(value, f"{one.where}: member {number}")
            part.check_keys("name", "field-class")
            self._check_extensions(part)
            name = part.required_text("name")
            part.where = f"{one.where}: member {name!r}"
            if name in members:
                raise part.error("the name stands twice")
            members[name] = self._field_class(part.required("field-class"), part.where)
        return Struct(tuple(members.items()), one.alignment("minimum-alignment"), are_plain=True)

    def _static_array(self, one: _Object) -> Type:
        one.check_keys("type", "element-field-class", "minimum-alignment", "length")
        length, align = one.required_integer("length"), one.alignment("minimum-alignment")
        return Array(self._element(one), length, align)

    def _dynamic_array(self, one: _Object) -> Type:
        one.check_keys("type", "element-field-class", "minimum-alignment", "length-field-location")
        location, align = _location(one, "length-field-location"), one.alignment("minimum-alignment")
        return Sequence(self._element(one), location, one.where, align)

    def _element(self, one: _Object) -> Type:
        return self._field_class(one.required("element-field-class"), f"{one.where}: element")

    def _optional(self, one: _Object) -> Type:
        one.check_keys("type", "field-class", "selector-field-location", "selector-field-ranges")
        ranges = None
        if "selector-field-ranges" in one.value:
            ranges = one.ranges(one.value["selector-field-ranges"])
        location = _location(one, "selector-field-location")
        element = self._field_class(one.required("field-class"), f"{one.where}: optional")
        return Optional(element, location, ranges, one.where)

    def _variant(self, one: _Object) -> Type:
        one.check_keys("type", "options", "selector-field-location")
        location = _location(one, "selector-field-location")
        options, ranges = [], []
        for number, value in enumerate(one.array("options")):
            part = _Object(value, f"{one.where}: option {number}")
            part.check_keys("name", "field-class", "selector-field-ranges")
            self._check_extensions(part)
            name = part.text("name")
            if name is not None and name in [other for other, _ in options]:
                raise part.error(f"the name {name!r} stands twice")
            ranges.append(part.ranges(part.required("selector-field-ranges")))
            options.append((name, self._field_class(part.required("field-class"), part.where)))
        if not options:
            raise one.error("a variant has no options")
        _check_disjoint(one, ranges)
        return Variant(location, tuple(options), one.where, tuple(ranges))


_FIELD_CLASSES = {
    "fixed-length-bit-array": _Reader._bit_array,
    "fixed-length-bit-map": _Reader._bit_map,
    "fixed-length-boolean": _Reader._boolean,
    "fixed-length-unsigned-integer": _Reader._fixed_integer,
    "fixed-length-signed-integer": _Reader._fixed_integer,
    "fixed-length-floating-point-number": _Reader._float,
    "variable-length-unsigned-integer": _Reader._variable_integer,
    "variable-length-signed-integer": _Reader._variable_integer,
    "null-terminated-string": _Reader._string,
    "static-length-string": _Reader._static_text,
    "dynamic-length-string": _Reader._dynamic_text,
    "static-length-blob": _Reader._static_blob,
    "dynamic-length-blob": _Reader._dynamic_blob,
    "structure": _Reader._structure,
    "static-length-array": _Reader._static_array,
    "dynamic-length-array": _Reader._dynamic_array,
    "optional": _Reader._optional,
    "variant": _Reader._variant,
}


def _base(one: _Object) -> int:
    return one.one_of("preferred-display-base", (2, 8, 10, 16), 10)


def _uuid(one: _Object) -> bytes:
    values = one.array("uuid")
    if len(values) != 16 or not all(type(value) is int and 0 <= value < 256 for value in values):
        raise one.error(f"uuid {_short(values)} is not an array of 16 bytes")
    return bytes(values)


def _location(one: _Object, key: str) -> Location:
    part = _Object(one.required(key), f"{one.where}: {key}")
    part.check_keys("origin", "path")
    part.required("path")
    path = part.array("path")
    if not path or path[-1] is None or not all(name is None or isinstance(name, str) for name in path):
        raise part.error(f"path {_short(path)} is not an array of names, of which null may precede the last")
    origin = part.one_of("origin", ORIGINS)
    return Location(origin and ORIGINS[origin], tuple(path))


def _check_disjoint(one: _Object, options: list) -> None:
    """No integer selects two options."""
    found = sorted((low, high, number) for number, ranges in enumerate(options) for low, high in ranges)
    for (_, high, first), (low, _, second) in zip(found, found[1:], strict=False):
        if low <= high and first != second:
            raise one.error(f"options {min(first, second)} and {max(first, second)} are both selected by {low}")


def _with_cpu(context: Struct) -> Struct:
    """A packet's context; its member ``cpu_id`` is given the role that CTF has not."""
    members = []
    for name, member in context.members:
        if name == "cpu_id" and isinstance(member, (Integer, VarInteger)) and member.role is None:
            member = replace(member, role=CPU)
        members.append((name, member))
    return replace(context, members=tuple(members))
