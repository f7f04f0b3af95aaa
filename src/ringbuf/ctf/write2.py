"""Writes the metadata of CTF 2 from a model of a trace's types, such as `tsdl.parse` gives.

The bytes of packets are the same in both versions of the format, so that any trace in
CTF 1.8 is one in CTF 2 with this for its metadata. What has no words in CTF 2 is said
in others: characters become strings, bytes BLOBs, ``bool_t`` booleans.
"""

from __future__ import annotations

import json
import uuid as uuids
from collections.abc import Mapping

from . import model
from .json2 import ORIGINS

__all__ = ["metadata_of"]

_SCOPES = {scope: origin for origin, scope in ORIGINS.items()}
_ORDERS = {"le": "little-endian", "be": "big-endian"}
_ENCODINGS = {"utf8": "utf-8", "ascii": "utf-8"}


def metadata_of(trace: model.Trace) -> str:
    """The metadata stream of a trace in CTF 2.

    Parameters
    ----------
    trace : model.Trace

    Returns
    -------
    str
        A JSON text sequence.
    """
    fragments = [_preamble(trace), _trace_class(trace)]
    fragments += [_clock_class(name, clock) for name, clock in trace.clocks.items()]
    for stream in trace.streams.values():
        fragments.append(_stream_class(trace, stream))
        fragments += [_event_class(trace, stream, event) for event in stream.events.values()]
    return "".join(f"\x1e{json.dumps(one, ensure_ascii=False, separators=(',', ':'))}\n" for one in fragments)


# ---- fragments ----


def _given(**properties) -> dict:
    """Those that are not None and not empty, under their names in JSON."""
    return {name.replace("_", "-"): value for name, value in properties.items() if value not in (None, {}, "", [])}


def _preamble(trace: model.Trace) -> dict:
    return {"type": "preamble", "version": 2, **_given(uuid=list(trace.uuid or b""))}


def _trace_class(trace: model.Trace) -> dict:
    header = _root(trace, "trace.packet.header", {"trace.packet.header": trace.packet_header})
    uid = trace.uid or (str(uuids.UUID(bytes=trace.uuid)) if trace.uuid and trace.version == 1 else None)
    more = _given(namespace=trace.namespace, name=trace.name, uid=uid, attributes=trace.attributes)
    env = {_text(name): _text(value) if isinstance(value, str) else value for name, value in trace.env.items()}
    return {"type": "trace-class", **more, **_given(environment=env, packet_header_field_class=header)}


def _clock_class(name: str, clock: model.Clock) -> dict:
    seconds, cycles = divmod(clock.offset, clock.freq)
    uid = clock.uid or (str(uuids.UUID(bytes=clock.uuid)) if clock.uuid else None)
    origin: str | dict | None = "unix-epoch" if clock.absolute or clock.uuid else None
    if clock.origin is not None:
        namespace, origin_name, origin_uid = clock.origin
        origin = {**_given(namespace=namespace), "name": origin_name, "uid": origin_uid}
    more = _given(
        namespace=clock.namespace,
        uid=uid,
        origin=origin,
        description=_text(clock.description),
        attributes=clock.attributes,
    )
    errors = {
        key: value for key, value in (("precision", clock.precision), ("accuracy", clock.accuracy)) if value is not None
    }
    offset = {"seconds": clock.offset_s + seconds, "cycles": cycles}
    about = {"id": name, "name": clock.name, "frequency": clock.freq, "offset-from-origin": offset}
    return {"type": "clock-class", **about, **errors, **more}


def _scopes(trace: model.Trace, stream: model.Stream) -> dict[str, model.Struct | None]:
    return {
        "trace.packet.header": trace.packet_header,
        "stream.packet.context": stream.packet_context,
        "stream.event.header": stream.event_header,
        "stream.event.context": stream.event_context,
    }


def _stream_class(trace: model.Trace, stream: model.Stream) -> dict:
    scopes = _scopes(trace, stream)
    more = _given(
        namespace=stream.namespace,
        name=stream.name,
        uid=stream.uid,
        attributes=stream.attributes,
        default_clock_class_id=stream.clock,
        packet_context_field_class=_root(trace, "stream.packet.context", scopes),
        event_record_header_field_class=_root(trace, "stream.event.header", scopes),
        event_record_common_context_field_class=_root(trace, "stream.event.context", scopes),
    )
    return {"type": "data-stream-class", "id": stream.id, **more}


def _event_class(trace: model.Trace, stream: model.Stream, event: model.Event) -> dict:
    scopes = {**_scopes(trace, stream), "event.context": event.context, "event.fields": event.fields}
    more = _given(
        namespace=event.namespace,
        uid=event.uid,
        attributes=event.attributes,
        specific_context_field_class=_root(trace, "event.context", scopes),
        payload_field_class=_root(trace, "event.fields", scopes),
    )
    about = {"id": event.id, "data-stream-class-id": event.stream_id, "name": _text(event.name)}
    return {"type": "event-record-class", **about, **more}


def _root(trace: model.Trace, scope: str, scopes: dict[str, model.Struct | None]) -> dict | None:
    kind = scopes[scope]
    return None if kind is None else _Types(trace.byte_order, scopes).of(kind)


def _text(value: str) -> str:
    """What was no UTF-8 is no JSON either."""
    return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


# ---- types ----


class _Types:
    """Field classes of one structure of a packet or an event. `scopes` are those that it may refer to."""

    def __init__(self, byte_order: str, scopes: dict[str, model.Struct | None]) -> None:
        self._byte_order = byte_order
        self._scopes = scopes
        self._frames: list[model.Struct] = []  # around the type in hand

    def of(self, kind: model.Type) -> dict:
        return getattr(self, "_" + type(kind).__name__.lower())(kind)

    def _bits_of(self, kind) -> dict:
        order = kind.byte_order or self._byte_order
        found = {"length": kind.size, "byte-order": _ORDERS[order], "alignment": kind.align}
        if getattr(kind, "is_reversed", False):
            found["bit-order"] = "last-to-first" if order == "le" else "first-to-last"
        return found

    def _integer(self, kind: model.Integer) -> dict:
        if (kind.alias, kind.size) == ("bool_t", 8):
            return {"type": "fixed-length-boolean", **self._bits_of(kind)}
        return {"type": f"fixed-length-{_sign(kind)}-integer", **self._bits_of(kind), **_integer_more(kind)}

    def _varinteger(self, kind: model.VarInteger) -> dict:
        return {"type": f"variable-length-{_sign(kind)}-integer", **_integer_more(kind)}

    def _enum(self, kind: model.Enum) -> dict:
        mappings: dict[str, list] = {}
        for label, low, high in kind.labels:
            mappings.setdefault(_text(label), []).append([low, high])
        return {**self.of(kind.container), "mappings": mappings}

    def _bits(self, kind: model.Bits) -> dict:
        flags: dict[str, list] = {}
        for name, low, high in kind.flags:
            flags.setdefault(name, []).append([low, high])
        return {"type": f"fixed-length-bit-{'map' if flags else 'array'}", **self._bits_of(kind), **_given(flags=flags)}

    def _boolean(self, kind: model.Boolean) -> dict:
        return {"type": "fixed-length-boolean", **self._bits_of(kind)}

    def _float(self, kind: model.Float) -> dict:
        return {"type": "fixed-length-floating-point-number", **self._bits_of(kind)}

    def _string(self, kind: model.String) -> dict:
        return {"type": "null-terminated-string", **_encoding(kind.encoding)}

    def _text(self, kind: model.Text) -> dict:
        return {**self._sized("string", kind.length), **_encoding(kind.encoding)}

    def _blob(self, kind: model.Blob) -> dict:
        media_type = None if kind.media_type == model.BYTES else kind.media_type
        return {**self._sized("blob", kind.length), **_given(media_type=media_type), **_roles(kind)}

    def _sized(self, what: str, length) -> dict:
        if isinstance(length, int):
            return {"type": f"static-length-{what}", "length": length}
        return {"type": f"dynamic-length-{what}", "length-field-location": self._location(length)}

    def _array(self, kind: model.Array) -> dict:
        if kind.role is not None:
            return {"type": "static-length-blob", "length": kind.length, **_roles(kind)}
        return self._many(kind)

    def _sequence(self, kind: model.Sequence) -> dict:
        return self._many(kind)

    def _many(self, kind: model.Array | model.Sequence) -> dict:
        element = kind.element
        if isinstance(element, model.Integer) and (element.size, element.align, kind.align) == (8, 8, 1):
            if element.encoding:
                return {**self._sized("string", kind.length), **_encoding(_ENCODINGS[element.encoding])}
            if element.alias == "byte_t" and isinstance(kind, model.Sequence):
                return self._sized("blob", kind.length)
        found = {**self._sized("array", kind.length), "element-field-class": self.of(element)}
        return {**found, "minimum-alignment": kind.align} if kind.align > 1 else found

    def _struct(self, kind: model.Struct) -> dict:
        self._frames.append(kind)
        names = _names(kind)
        members = [{"name": names[name], "field-class": self.of(member)} for name, member in kind.members]
        self._frames.pop()
        found = {"type": "structure", "member-classes": members}
        return {**found, "minimum-alignment": kind.align} if kind.align > 1 else found

    def _optional(self, kind: model.Optional) -> dict:
        more = {} if kind.ranges is None else {"selector-field-ranges": [list(one) for one in kind.ranges]}
        location = self._location(kind.selector)
        return {"type": "optional", "selector-field-location": location, "field-class": self.of(kind.element), **more}

    def _variant(self, kind: model.Variant) -> dict:
        ranges = kind.ranges or self._ranges_of(kind)
        options = [
            {**({} if name is None else {"name": name}), "selector-field-ranges": [list(one) for one in found],
             "field-class": self.of(option)}
            for (name, option), found in zip(kind.options, ranges, strict=True)
            if found  # else nothing selects it
        ]  # fmt: skip
        return {"type": "variant", "selector-field-location": self._location(kind.tag), "options": options}

    def _ranges_of(self, kind: model.Variant) -> list[list[tuple[int, int]]]:
        """What selects each option: in CTF 1.8, the labels of its name."""
        frames, names = self._found(kind.tag)
        tag = _descend(frames[-1], names)
        return [
            [(low, high) for label, low, high in tag.labels if label.removeprefix("_") == name.removeprefix("_")]
            for name, _ in kind.options
        ]

    # -- where lengths and tags are --

    def _location(self, path: str | model.Location) -> dict:
        if isinstance(path, model.Location):
            return {**({"origin": _SCOPES[path.origin]} if path.origin else {}), "path": list(path.path)}
        origin, _ = self._split(path)
        frames, names = self._found(path)
        shown = []
        kind = frames[-1]
        for name in names:
            shown.append(_names(kind)[name] if isinstance(kind, model.Struct) else name)
            kind = dict(kind.members)[name] if isinstance(kind, model.Struct) else kind
        if origin is not None:
            return {"origin": _SCOPES[origin], "path": shown}
        return {"path": [None] * (len(self._frames) - len(frames)) + shown}

    def _split(self, path: str) -> tuple[str | None, list[str]]:
        for scope in _SCOPES:
            if path.startswith(scope + "."):
                return scope, path[len(scope) + 1 :].split(".")
        return None, path.split(".")

    def _found(self, path: str) -> tuple[list[model.Struct], list[str]]:
        """The structures down to the one in which a path begins, and the names from there."""
        origin, names = self._split(path)
        if origin is not None:
            scope = self._scopes[origin]
            assert scope is not None  # a path that leads there was checked when the trace was parsed
            return [scope], names
        for depth in range(len(self._frames), 0, -1):
            if names[0] in dict(self._frames[depth - 1].members):
                return self._frames[:depth], names
        raise ValueError(f"{path} is nowhere around it")


def _descend(kind: model.Type, names: list[str]) -> model.Type:
    for name in names:
        kind = dict(kind.members)[name]
    return kind


def _names(kind: model.Struct) -> Mapping[str, str]:
    """Members as CTF 2 calls them: without the underscore of CTF 1.8, if that leaves them different."""
    names = model.names_of(kind)
    plain = names if kind.are_plain else [name.removeprefix("_") for name in names]
    return dict(zip(names, plain if len(set(plain)) == len(names) else names, strict=True))


def _sign(kind: model.Integer | model.VarInteger) -> str:
    return "signed" if kind.signed else "unsigned"


def _integer_more(kind: model.Integer | model.VarInteger) -> dict:
    return {**({"preferred-display-base": kind.base} if kind.base != 10 else {}), **_roles(kind)}


def _roles(kind) -> dict:
    return {"roles": [kind.role]} if kind.role not in (None, model.CPU) else {}


def _encoding(name: str) -> dict:
    return {} if name == "utf-8" else {"encoding": name}
