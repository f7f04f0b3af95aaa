"""Writes the metadata of a channel's trace: CTF 1.8 in the TSDL language.

Two constructs are shaped by what babeltrace2 2.0 can read.

*Holes.* Where a record was discarded or torn, the event header is a *hole*:
a tag, a length, that many bytes to skip, then the header of the next event.
A sequence of bytes would say so, but babeltrace2 crashes on any sequence in an
event header. So the length is declared bit by bit, and each bit that is set
skips a fixed array. All these integers are called ``id``, because babeltrace2
warns about any other name in an event header; the real id is read last.

*Aligned bytes.* A structure is aligned like its most aligned member, so an
aligned field would move the length that precedes it. Only a variant is not
aligned like what it contains: the padding is an empty, aligned structure in a
variant whose tag is the top bit of the length, always 0.
"""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from . import schema
from .tsdl import FIRST_LINE

__all__ = [
    "FORMATS",
    "ChannelLayout",
    "ClockInfo",
    "channel_metadata",
    "check_format",
    "event_metadata",
    "in_format",
    "kernel_metadata",
    "sampled_metadata",
    "with_clock",
]

#: Of traces: CTF 1.8 and CTF 2. Packets are the same in both.
FORMATS = ("ctf", "ctf2")

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z", re.ASCII)


@dataclass(frozen=True)
class ClockInfo:
    """The clock of a channel: tick 0 is at `offset_s` seconds and `offset_cycles` ticks, Unix time.

    Parameters
    ----------
    freq : int
        Ticks per second, positive.
    offset_s : int
        Seconds since the Unix epoch; may be negative.
    offset_cycles : int
        Ticks to add to `offset_s`, not negative.
    name : str
        An ASCII identifier.
    description : str
    uuid : bytes of length 16, optional
        The same for all clocks that count together, such as the boot id.
        babeltrace2 merges traces by it. Without, the clock is declared
        absolute, and babeltrace2 merges it with other absolute clocks.
    precision : int, optional
        Ticks by which it may be wrong, where that is known.
    """

    freq: int
    offset_s: int = 0
    offset_cycles: int = 0
    name: str = "ringbuf"
    description: str = ""
    uuid: bytes | None = None
    precision: int | None = None

    def __post_init__(self) -> None:
        if self.freq <= 0 or self.offset_cycles < 0:
            raise ValueError("a clock's freq must be positive and its offset_cycles not negative")
        if not _IDENTIFIER.match(self.name):
            raise ValueError(f"clock name {self.name!r} is not an ASCII identifier")


@dataclass(frozen=True)
class ChannelLayout:
    """All that the bytes of a channel's packets depend on.

    Parameters
    ----------
    uuid : bytes of length 16
        Of the trace; every packet repeats it.
    header : {"compact", "large"}
        5-bit event ids and 27-bit times, or 16-bit ids and 32-bit times.
    per_cpu : bool
        Packets carry a ``cpu_id``.
    clock : ClockInfo
    contexts : str
        Schema text of the fields that every event carries.
    env : mapping of str to (str or int)
        What to say about where the trace is from, such as ``hostname``.
    holes : bool
        Event headers may be holes. Without, the event header is declared
        exactly as LTTng does, if `header_align` is 1.
    header_align : int
        Alignment of event headers in bytes, a power of two.
    events : sequence of schema.EventSchema

    Raises
    ------
    ValueError
        A parameter is not one of the above, or two events have the same id.
    """

    uuid: bytes
    header: str
    per_cpu: bool
    clock: ClockInfo
    contexts: str = ""
    env: Mapping[str, str | int] = field(default_factory=dict)
    holes: bool = True
    header_align: int = 4
    events: Iterable[schema.EventSchema] = ()

    def __post_init__(self) -> None:
        if len(self.uuid) != 16:
            raise ValueError(f"a UUID has 16 bytes, not {len(self.uuid)}")
        if self.header not in _HEADERS:
            raise ValueError(f"header {self.header!r} is not compact or large")
        if self.header_align < 1 or self.header_align & (self.header_align - 1):
            raise ValueError(f"header_align {self.header_align} is not a power of two")
        object.__setattr__(self, "contexts", schema.canonical(self.contexts))
        object.__setattr__(self, "events", tuple(self.events))
        ids = [event.id for event in self.events]
        if len(set(ids)) < len(ids):
            raise ValueError("two events have the same id")

    @property
    def packet_header_size(self) -> int:
        """Bytes of packet header and packet context: 84, or 80 without cpu_id."""
        return 84 if self.per_cpu else 80


def channel_metadata(layout: ChannelLayout) -> str:
    """The metadata text of a channel.

    Parameters
    ----------
    layout : ChannelLayout

    Returns
    -------
    str
        Complete, and valid for packets of these events. For an event that is
        added later, append `event_metadata`.

    Raises
    ------
    ValueError
        A key of `layout.env` is not an identifier.
    TypeError
        A value of `layout.env` is neither text nor a number.
    """
    blocks = [
        FIRST_LINE + "\n",
        _TYPES,
        _trace_block(layout),
        _env_block(layout.env),
        _clock_block(layout.clock),
        _packet_context(layout),
        _event_header(layout),
        _stream_block(layout),
    ]
    return "\n".join([*blocks, *map(event_metadata, layout.events)])


def check_format(name: str) -> None:
    """ValueError: it is not one of `FORMATS`."""
    if name not in FORMATS:
        raise ValueError(f"format is {' or '.join(map(repr, FORMATS))}, not {name!r}")


def in_format(text: str, name: str) -> str:
    """Metadata in the format that is asked for: one of `FORMATS`."""
    if name == "ctf":
        return text
    from . import tsdl, write2

    return write2.metadata_of(tsdl.parse(text))


def with_clock(text: str, clock: ClockInfo, env: Mapping[str, str | int]) -> str:
    """A text of `channel_metadata` with another clock of the same name, and more in its ``env``.

    Raises
    ------
    ValueError
        It is not such a text.
    """
    text, clocks = _CLOCK_BLOCK.subn(lambda _: _clock_text(clock), text)
    text, envs = _ENV_BEGIN.subn(lambda found: found.group() + _env_lines(env), text)
    if (clocks, envs) != (1, 1):
        raise ValueError(f"these metadata have {clocks} clocks and {envs} env blocks, not one of each")
    return text


def event_metadata(event: schema.EventSchema) -> str:
    """The ``event`` block of one event class, for a metadata text made by `metadata`."""
    lines = [f"\tname = {_quoted(event.name)};", f"\tid = {event.id};", "\tstream_id = 0;"]
    if event.contexts:
        lines.append(f"\tcontext := {_struct(event.contexts)};")
    lines.append(f"\tfields := {_struct(event.fields)};")
    return "\n".join(["event {", *lines, "};\n"])


def kernel_metadata(clock: ClockInfo, events: Iterable[tuple[int, str, str]]) -> str:
    """Blocks for a second stream class: packets of `_decode.KernelPackets`, counting the same clock.

    Parameters
    ----------
    clock : ClockInfo
        Declared by the `metadata` that this is appended to.
    events : iterable of (int, str, str)
        Id, name, and TSDL of the fields, of each event.
    """
    layout = ChannelLayout(uuid=bytes(16), header="large", per_cpu=True, clock=clock, header_align=1)
    context = _packet_context(layout).replace("struct packet_context", "struct packet_context_kernel")
    labels = "compact = 0 ... 65534, extended = 65535"
    header = _header_struct("event_header_kernel", layout, "uint16_t", labels, "")
    stream = """stream {
	id = 1;
	event.header := struct event_header_kernel;
	packet.context := struct packet_context_kernel;
	event.context := struct {
		uint8_t _common_flags;
		uint8_t _common_preempt_count;
		int32_t _common_pid;
	};
};
"""
    blocks = [context, header, stream]
    for number, name, fields in events:
        lines = f"\tname = {_quoted(name)};\n\tid = {number};\n\tstream_id = 1;\n"
        blocks.append(f"event {{\n{lines}\tfields := struct {{\n{fields}\t}};\n}};\n")
    return "\n".join(["", *blocks])


def sampled_metadata(clock: ClockInfo, stream_id: int, events: Iterable[schema.EventSchema]) -> str:
    """Blocks for a stream class whose records have an id and a full time, counting the same clock.

    Parameters
    ----------
    clock : ClockInfo
        Declared by the `metadata` that this is appended to.
    stream_id : int
    events : iterable of schema.EventSchema
    """
    layout = ChannelLayout(uuid=bytes(16), header="large", per_cpu=False, clock=clock)
    context = _packet_context(layout).replace("struct packet_context", "struct packet_context_sampled")
    header = f"""struct event_header_sampled {{
	uint32_t id;
	{_time(clock, 64)} timestamp;
}};
stream {{
	id = {stream_id};
	event.header := struct event_header_sampled;
	packet.context := struct packet_context_sampled;
}};
"""
    blocks = [event_metadata(event).replace("stream_id = 0;", f"stream_id = {stream_id};", 1) for event in events]
    return "\n".join(["", context, header, *blocks])


# ---- types ----


def _integer(name: str, size: int, signed: bool = False, align: int = 8, more: str = "") -> str:
    attributes = f"size = {size}; align = {align}; signed = {str(signed).lower()};{more}"
    return f"typealias integer {{ {attributes} }} := {name};\n"


def _float(name: str, exponent: int, mantissa: int) -> str:
    return f"typealias floating_point {{ exp_dig = {exponent}; mant_dig = {mantissa}; align = 8; }} := {name};\n"


#: Schema type -> TSDL type. The last two are told from uint8_t by their names alone.
_TYPE_NAMES = {base: f"{'' if signed else 'u'}int{bits}_t" for base, (bits, signed) in schema.INTEGERS.items()}
_TYPE_NAMES |= {base: f"float{bits}_t" for base, bits in schema.FLOATS.items()}
_TYPE_NAMES |= {"bool": "bool_t", "bytes": "byte_t"}

_TYPES = "".join(
    [
        *(_integer(_TYPE_NAMES[base], bits, signed) for base, (bits, signed) in schema.INTEGERS.items()),
        _integer("bool_t", 8),
        _integer("byte_t", 8, more=" base = 16;"),
        *(_integer(f"uint{bits}_t", bits, align=1) for bits in (1, 5, 27, 31)),
        _float("float32_t", 8, 24),
        _float("float64_t", 11, 53),
    ]
)


def _struct(text: str) -> str:
    fields = schema.parse(text)
    taken = {"_" + one.name for one in fields}
    lines = [f"\t\t{line}\n" for one in fields for line in _declaration(one, taken)]
    return "struct {\n" + "".join(lines) + "\t}"


def _declaration(one: schema.Field, taken: set[str]) -> list[str]:
    """TSDL of a field. Names get an underscore, which readers drop, so that keywords can be names."""
    name = "_" + one.name
    if one.labels:
        labels = ", ".join(f"{_quoted(label)} = {value}" for label, value in one.labels)
        return [f"enum : {_TYPE_NAMES[one.base]} {{ {labels} }} {name};"]
    if one.base == "str":
        return [f"string {{ encoding = UTF8; }} {name};"]
    kind = _TYPE_NAMES[one.base]
    if one.length:
        return [f"{kind} {name}[{one.length}];"]
    if one.base != "bytes" and one.length is None:
        return [f"{kind} {name};"]
    length = _free(f"_{name}_length", taken)
    if one.align == 1:
        return [f"uint32_t {length};", f"{kind} {name}[{length}];"]
    tag, padding = _free(f"_{name}_tag", taken), _free(f"_{name}_align", taken)
    return [
        f"uint31_t {length};",
        f"enum : uint1_t {{ aligned = 0 }} {tag};",
        f"variant <{tag}> {{ struct {{ }} align({8 * one.align}) aligned; }} {padding};",
        f"{kind} {name}[{length}];",
    ]


def _free(name: str, taken: set[str]) -> str:
    """`name`, or the like of it that no field has."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name


# ---- blocks ----


def _trace_block(layout: ChannelLayout) -> str:
    return f"""trace {{
	major = 1;
	minor = 8;
	uuid = "{uuids.UUID(bytes=layout.uuid)}";
	byte_order = le;
	packet.header := struct {{
		uint32_t magic;
		uint8_t uuid[16];
		uint32_t stream_id;
		uint64_t stream_instance_id;
	}};
}};
"""


_ENV_BEGIN = re.compile(r"^env \{\n", re.MULTILINE)
_CLOCK_BLOCK = re.compile(r"^clock \{\n(?:\t.*\n)*\};\n", re.MULTILINE)


def _env_block(env: Mapping[str, str | int]) -> str:
    return "env {\n" + _env_lines(env) + "};\n"


def _env_lines(env: Mapping[str, str | int]) -> str:
    lines = []
    for key, value in env.items():
        if not _IDENTIFIER.match(key):
            raise ValueError(f"env name {key!r} is not an ASCII identifier")
        if not isinstance(value, (str, int)):
            raise TypeError(f"env {key!r} is neither text nor a number: {value!r}")
        lines.append(f"\t{key} = {_quoted(value) if isinstance(value, str) else int(value)};\n")
    return "".join(lines)


def _clock_text(clock: ClockInfo) -> str:
    origin = "absolute = true;" if clock.uuid is None else f'uuid = "{uuids.UUID(bytes=clock.uuid)}";'
    precision = "" if clock.precision is None else f"\tprecision = {clock.precision};\n"
    return f"""clock {{
	name = "{clock.name}";
	{origin}
	description = {_quoted(clock.description)};
	freq = {clock.freq};
	offset_s = {clock.offset_s};
	offset = {clock.offset_cycles};
{precision}}};
"""


def _clock_block(clock: ClockInfo) -> str:
    mapped = f" map = clock.{clock.name}.value;"
    types = [_integer(_time(clock, bits), bits, align=1 if bits == 27 else 8, more=mapped) for bits in (27, 32, 64)]
    return _clock_text(clock) + "\n" + "".join(types)


def _time(clock: ClockInfo, bits: int) -> str:
    return f"uint{bits}_clock_{clock.name}_t"


def _packet_context(layout: ChannelLayout) -> str:
    time = _time(layout.clock, 64)
    cpu = "\tuint32_t cpu_id;\n" if layout.per_cpu else ""
    return f"""struct packet_context {{
	{time} timestamp_begin;
	{time} timestamp_end;
	uint64_t content_size;
	uint64_t packet_size;
	uint64_t packet_seq_num;
	uint64_t events_discarded;
{cpu}}};
"""


def _stream_block(layout: ChannelLayout) -> str:
    context = f"\tevent.context := {_struct(layout.contexts)};\n" if layout.contexts else ""
    return f"""stream {{
	id = 0;
	event.header := struct event_header_{layout.header};
	packet.context := struct packet_context;
{context}}};
"""


# ---- the event header ----

#: Kind -> (type of the id, its largest value, bits of a short time, bits of a hole's length).
_HEADERS = {"compact": ("uint5_t", 31, 27, 27), "large": ("uint16_t", 65535, 32, 32)}


def _event_header(layout: ChannelLayout) -> str:
    id_type, extended, short_bits, length_bits = _HEADERS[layout.header]
    name = f"event_header_{layout.header}"
    if not layout.holes:
        return _header_struct(name, layout, id_type, f"compact = 0 ... {extended - 1}, extended = {extended}", "")
    labels = f"compact = 0 ... {extended - 2}, extended = {extended}"
    inner = _header_struct("event_header_after_hole", layout, id_type, labels, "")
    # The variant around the inner header keeps its alignment from the hole's length.
    hole = """		struct {
			struct hole_0 length;
			variant <id> { struct event_header_after_hole hole; } next;
		} hole;
"""
    labels = f"compact = 0 ... {extended - 2}, hole = {extended - 1}, extended = {extended}"
    return _hole_chain(length_bits) + "\n" + inner + "\n" + _header_struct(name, layout, id_type, labels, hole)


def _header_struct(name: str, layout: ChannelLayout, id_type: str, labels: str, hole: str) -> str:
    short_bits = _HEADERS[layout.header][2]
    return f"""struct {name} {{
	enum : {id_type} {{ {labels} }} id;
	variant <id> {{
		struct {{
			{_time(layout.clock, short_bits)} timestamp;
		}} compact;
		struct {{
			uint32_t id;
			{_time(layout.clock, 64)} timestamp;
		}} extended;
{hole}	}} v;
}} align({8 * layout.header_align});
"""


def _hole_chain(bits: int) -> str:
    """struct hole_0: an integer of `bits` bits, lowest first, then as many bytes as it says."""
    lines = ["struct hole_byte { uint8_t id; };\n"]
    for bit in reversed(range(bits)):
        rest = f"struct hole_{bit + 1} rest; " if bit + 1 < bits else ""
        skip = f"variant <id> {{ struct {{ }} clear; struct hole_byte set[{1 << bit}]; }} skip;"
        lines.append(f"struct hole_{bit} {{ enum : uint1_t {{ clear = 0, set = 1 }} id; {rest}{skip} }};\n")
    return "".join(lines)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x01-\x1f\x7f]", lambda match: f"\\{ord(match.group()):03o}", escaped) + '"'
