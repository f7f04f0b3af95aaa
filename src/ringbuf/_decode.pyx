# cython: language_level=3, nonecheck=True
"""Reads packets of a CTF trace: as records, and as NumPy columns.

`Decoder` compiles the types of a trace to a plan (decode.h) once. Then packets
are walked in C; Python objects are made only for what is asked for.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.mem cimport PyMem_Calloc, PyMem_Free
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.errno cimport errno
from libc.stdint cimport INT64_MIN, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memchr, memcmp, memcpy, memmove, memset

import array
import functools
import heapq
import math
import os
import sys

from .ctf.metadata import ChannelLayout, ClockInfo, channel_metadata
from .ctf import model, tsdl
from . import limits as _limits
from .errors import TraceError

__all__ = [
    "Decoder",
    "Drawer",
    "Drawing",
    "FileMap",
    "Joiner",
    "KernelPackets",
    "Levels",
    "Marks",
    "Packet",
    "Page",
    "Printer",
    "RECORD",
    "Record",
    "Rows",
    "Table",
    "are_utf8",
    "empty_rows",
    "merged",
    "merged_rows",
    "packed_rows",
    "picked",
    "plain_rows",
    "record_at",
]


cdef extern from *:
    """
    /* Let signal handlers run, from a walk with or without the GIL. Not 0: one has raised, and the error is set. */
    static int ctf_look_for_signals(void)
    {
        PyGILState_STATE state = PyGILState_Ensure();
        int raised = PyErr_CheckSignals();

        PyGILState_Release(state);
        return raised;
    }
    """
    int ctf_look_for_signals() noexcept nogil

cdef extern from "Python.h":
    PyObject *PyErr_Occurred()
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    void *PyUnicode_DATA(object text)

cdef extern from "decode/decode.h" nogil:
    enum:
        CTF_INTEGER, CTF_FLOAT, CTF_STRING, CTF_STRUCT, CTF_ARRAY, CTF_SEQUENCE, CTF_VARIANT, CTF_VARINT, CTF_OPTIONAL
        CTF_ROLE_CLOCK, CTF_ROLE_EVENT_ID, CTF_ROLE_MAGIC, CTF_ROLE_UUID, CTF_ROLE_STREAM_ID, CTF_ROLE_INSTANCE_ID
        CTF_ROLE_END, CTF_ROLE_CONTENT_SIZE, CTF_ROLE_PACKET_SIZE, CTF_ROLE_SEQUENCE_NUMBER, CTF_ROLE_DISCARDED
        CTF_ROLE_CPU, CTF_N_ROLES
        CTF_UTF8, CTF_UTF16LE, CTF_UTF16BE, CTF_UTF32LE, CTF_UTF32BE
        CTF_HEADER_ANY, CTF_HEADER_COMPACT, CTF_HEADER_LARGE
        CTF_ROW_PREFIX, CTF_SLACK

    struct ctf_node:
        uint8_t kind, is_signed, is_big_endian, is_bool, role, is_odd, is_reversed, base, encoding
        uint32_t align, size
        int64_t fixed
        int32_t slot, asks
        uint32_t first, count
        uint64_t length

    struct ctf_range:
        uint64_t low, high
        int32_t node

    struct ctf_event:
        uint64_t id
        uint32_t index
        int32_t context, fields
        int64_t fixed

    struct ctf_copy:
        # "from" is a Python keyword
        uint32_t from_ "from"
        uint32_t to, size
        uint8_t is_bool

    struct ctf_clock:
        uint64_t freq, max_ticks
        int64_t base_ns

    struct ctf_stream:
        uint64_t id
        int32_t packet_context, event_context, event_header
        uint8_t header_kind, has_holes, asks_packet, asks_outside
        uint32_t header_align
        ctf_clock clock
        ctf_event *events
        uint32_t n_events

    struct ctf_plan:
        const ctf_node *nodes
        const int32_t *members
        const ctf_range *ranges
        uint32_t n_slots

    struct ctf_cursor:
        const uint8_t *data
        uint64_t origin, pos, end
        uint64_t *slots
        uint64_t ticks, event_id
        uint64_t *roles
        const char *error

    struct ctf_record:
        const ctf_event *event
        uint64_t ticks, begin

    enum:
        CTF_STEP_ALIGN, CTF_STEP_SKIP, CTF_STEP_STORE, CTF_STEP_TEXT, CTF_STEP_BYTES, CTF_STEP_OBJECT

    struct ctf_cell:
        int32_t node
        uint8_t step

    enum:
        CTF_MOVE_COPY, CTF_MOVE_BOOL, CTF_MOVE_SKIP, CTF_MOVE_KEEP, CTF_MOVE_TEXT, CTF_MOVE_MANY, CTF_MOVE_CHARS

    struct ctf_op:
        uint8_t move
        uint32_t size, to
        int32_t slot
        uint64_t length

    struct ctf_reference:
        const uint8_t *at
        uint64_t size

    struct ctf_rows:
        uint8_t *next
        uint64_t room
        uint32_t row_size
        uint8_t is_wanted
        const ctf_copy *copies
        uint32_t n_copies
        const ctf_cell *cells
        uint32_t n_cells
        const ctf_op *ops
        uint32_t n_ops
        uint8_t *heap
        uint64_t heap_room

    struct ctf_piece:
        const uint8_t *begin
        const uint8_t *end

    struct ctf_lane:
        const uint8_t *next
        const ctf_piece *piece
        int64_t time

    void ctf_set_budget(ctf_cursor *c, uint64_t empty, uint64_t seconds, int (*pause)() noexcept)
    void ctf_take_budget(ctf_cursor *c, const ctf_cursor *from_)
    int ctf_spend(ctf_cursor *c, uint64_t n)
    int ctf_align(ctf_cursor *c, uint64_t align)
    int ctf_number(ctf_cursor *c, const ctf_node *n, uint64_t *value)
    int64_t ctf_string_length(const ctf_node *n, const ctf_cursor *c)
    uint32_t ctf_unit(uint8_t encoding)
    int64_t ctf_wide_nul(const uint8_t *start, uint64_t size, uint32_t unit)
    int ctf_length(const ctf_plan *p, const ctf_node *n, ctf_cursor *c, uint64_t *length)
    int32_t ctf_option(const ctf_plan *p, const ctf_node *n, ctf_cursor *c)
    int ctf_walk(const ctf_plan *p, int32_t index, ctf_cursor *c)
    int ctf_next_event(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, ctf_record *r)
    int ctf_count_events(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, uint64_t *counts)
    int64_t ctf_check_events(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, uint64_t last)
    void ctf_add_row(ctf_rows *rows, const uint8_t *from_, int64_t time_ns, int32_t cpu)
    int ctf_fill_rows(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, ctf_record *asked, ctf_rows *rows,
                      int32_t cpu)
    uint8_t *ctf_store(const ctf_plan *p, int32_t index, ctf_cursor *c, uint8_t *to)
    int ctf_add_event(const ctf_plan *p, ctf_rows *rows, ctf_cursor *after, const ctf_record *r, int64_t time_ns,
                      int32_t cpu)
    uint64_t ctf_heap_need(const ctf_cursor *after, const ctf_record *r)
    struct ctf_pick:
        uint32_t at, size
        uint8_t *to
        int64_t *ends

    void ctf_pick_columns(const uint8_t *rows, uint64_t n, uint32_t row_size, const ctf_pick *picks, uint32_t n_picks)
    void ctf_gather(const uint8_t *rows, uint64_t n, uint32_t row_size, uint8_t *to)
    uint64_t ctf_longest(const uint8_t *rows, uint64_t n, uint32_t row_size, uint64_t *total)
    void ctf_spread(const uint8_t *rows, uint64_t n, uint32_t row_size, uint64_t width, uint8_t *to)
    int ctf_is_ascii(const uint8_t *text, uint64_t size)
    int ctf_refer_to_utf8(const uint8_t *rows, uint64_t n, uint32_t row_size)
    int ctf_are_utf8(const uint8_t *data, const int64_t *offsets, uint64_t n)
    int64_t ctf_time_ns(const ctf_clock *clock, uint64_t ticks)
    const uint8_t *ctf_at(const ctf_cursor *c, uint64_t pos)
    uint32_t ctf_hash(const void *bytes, uint64_t length)
    struct ctf_spot:
        uint64_t ticks, start, end
        int64_t time_ns
        uint32_t index, zero

    int64_t ctf_list_events(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, uint64_t align, ctf_spot *spots,
                            uint64_t room)
    int64_t ctf_regular_events(const ctf_plan *p, const ctf_stream *s, ctf_cursor *c, uint32_t event, uint64_t *first,
                               uint64_t *stride)
    void ctf_merge_rows(ctf_lane **heap, uint32_t n, uint32_t row_size, uint8_t *to)


# What a node becomes in Python.
cdef enum:
    AS_INT, AS_BOOL, AS_TRUTH, AS_FLAGS, AS_ENUM, AS_FLOAT, AS_STR, AS_BYTES, AS_LIST, AS_DICT, AS_OPTION

cdef enum:
    MAX_NODES = 1 << 19
    MAX_ARRAY = 1 << 16  # elements of a subarray in a row; longer ones are objects
    STACK_SLOTS = 64
    FIRST_ROWS = 1024
    FIRST_BYTES = 1 << 20
    FIRST_HEAP = 1 << 12
    MAX_HEAP = 1 << 20
    TEXTS_SEEN = 256
    TEXT_SEEN_MAX = 64  # bytes

#: Of a record whose stream has no clock, in nanoseconds; what NumPy takes for no time.
cdef int64_t NO_TIME = INT64_MIN

_MAX_FIXED = 1 << 40  # bits of a type of fixed size

# ---- compiling types ----


class _Node:
    """A ctf_node in the making, and what Python needs besides."""

    __slots__ = (
        "index", "kind", "style", "base", "signed", "big_endian", "is_reversed", "role", "encoding", "align", "size",
        "fixed", "slot", "asks", "members", "names", "ranges", "length", "labels", "known", "is_shared",
    )

    def __init__(self, kind, style, align=1):
        self.kind, self.style, self.align = kind, style, align
        self.signed = self.big_endian = self.is_reversed = False
        self.size = self.length = self.role = self.encoding = 0
        self.base = 10
        self.slot = self.asks = -1
        self.members = []  # struct: members; array and sequence: the element; variant and optional: options
        self.names = ()  # struct: the members' names in Python, None for those not shown
        self.known = {}  # struct: the members by their names in the metadata
        self.ranges = []  # variant and optional: (low, high, option)
        self.labels = None  # enumeration: (label, low, high), ...; bits: the same of their numbers

    @property
    def is_odd(self):
        """Whether reading it takes ctf_odd_number()."""
        return self.kind == CTF_VARINT or self.is_reversed or self.kind == CTF_FLOAT and self.size not in (32, 64)


class _Frame:
    """A structure that is being compiled."""

    __slots__ = ("known", "current")

    def __init__(self, known):
        self.known = known  # members that are complete: {name: node}
        self.current = None  # name of the one in hand


#: What `ctf_node.role` is for each role.
_ROLES = {role: number for number, role in enumerate(model.ROLES, 1)}
_ENCODINGS = {
    "utf-8": CTF_UTF8, "utf-16le": CTF_UTF16LE, "utf-16be": CTF_UTF16BE, "utf-32le": CTF_UTF32LE, "utf-32be": CTF_UTF32BE,
}
_CODECS = {number: name for name, number in _ENCODINGS.items()}
_BYTE = model.Integer(8, align=8)

_EVENT_SLOTS = 1 << 20
#: Scopes of a packet and of an event's header, whose values outlive the structure itself.
_OUTER_SCOPES = ("trace.packet.header", "stream.packet.context", "stream.event.header")


class _Compiler:
    """Turns the types of a trace into nodes, children before parents."""

    def __init__(self, byte_order):
        self.nodes = []
        self.n_slots = 0  # of all but the events' own
        self.n_event_slots = self.max_event_slots = 0
        self.asked_scopes = set()  # of _OUTER_SCOPES, those that another scope refers to
        self._same = {}  # slots that are one: {slot: slot}; an event's own count from _EVENT_SLOTS
        self._big_endian = byte_order == "be"
        self._roots = {}  # dynamic scope -> node
        self._visible = ()  # dynamic scopes that the type being compiled may refer to
        self._frames = []  # the structures around the type being compiled

    def root(self, scope, kind, visible=()):
        """Compile the structure at a dynamic scope; it may refer to those in `visible`. Its node or None."""
        self._roots.pop(scope, None)
        if kind is None:
            return None
        self._scope, self._visible, self._frames = scope, visible, []
        self._roots[scope] = node = self._compile(kind, 0)
        return node

    def finish(self):
        """Sizes, once it is known which integers are asked for."""
        for node in self.nodes:
            node.slot, node.asks = self._slot(node.slot), self._slot(node.asks)
            node.fixed = _fixed_size(node)

    def _slot(self, slot):
        while slot in self._same:
            slot = self._same[slot]
        return slot if slot < _EVENT_SLOTS else self.n_slots + slot - _EVENT_SLOTS

    def _new_slot(self, is_shared):
        if is_shared:
            self.n_slots += 1
            return self.n_slots - 1
        self.n_event_slots += 1
        self.max_event_slots = max(self.max_event_slots, self.n_event_slots)
        return _EVENT_SLOTS + self.n_event_slots - 1

    def _compile(self, kind, depth):
        if depth > model.MAX_DEPTH:
            raise TraceError(f"metadata: types are nested more than {model.MAX_DEPTH} deep")
        if len(self.nodes) >= MAX_NODES:
            raise TraceError(f"metadata: the types have more than {MAX_NODES} parts")
        node = getattr(self, "_" + type(kind).__name__.lower())(kind, depth)
        node.index = len(self.nodes)
        node.is_shared = self._scope not in ("event.context", "event.fields")
        self.nodes.append(node)
        return node

    def _integer(self, kind, depth):
        node = _Node(CTF_INTEGER, AS_BOOL if kind.alias == "bool_t" and kind.size == 8 else AS_INT, kind.align)
        node.size, node.signed, node.base = kind.size, kind.signed, kind.base
        node.big_endian, node.is_reversed = self._order(kind), kind.is_reversed
        node.role = _ROLES.get(kind.role, 0)
        return node

    def _varinteger(self, kind, depth):
        node = _Node(CTF_VARINT, AS_INT, 8)
        node.size, node.signed, node.base, node.role = 64, kind.signed, kind.base, _ROLES.get(kind.role, 0)
        return node

    def _bits(self, kind, depth):
        node = _Node(CTF_INTEGER, AS_FLAGS if kind.flags else AS_INT, kind.align)
        node.size, node.big_endian, node.is_reversed = kind.size, self._order(kind), kind.is_reversed
        node.labels, node.base = kind.flags or None, 16
        return node

    def _boolean(self, kind, depth):
        node = _Node(CTF_INTEGER, AS_TRUTH, kind.align)
        node.size, node.big_endian = kind.size, self._order(kind)
        return node

    def _float(self, kind, depth):
        node = _Node(CTF_FLOAT, AS_FLOAT, kind.align)
        node.size, node.big_endian, node.is_reversed = kind.size, self._order(kind), kind.is_reversed
        node.length = {16: 5, 32: 8, 64: 11}.get(kind.size) or round(4 * math.log2(kind.size)) - 13
        return node

    def _order(self, kind):
        return self._big_endian if kind.byte_order is None else kind.byte_order == "be"

    def _enum(self, kind, depth):
        is_fixed = type(kind.container) is model.Integer
        node = self._integer(kind.container, depth) if is_fixed else self._varinteger(kind.container, depth)
        node.style = AS_ENUM
        node.labels = kind.labels
        return node

    def _string(self, kind, depth):
        node = _Node(CTF_STRING, AS_STR, 8)
        node.encoding = _ENCODINGS[kind.encoding]
        return node

    def _struct(self, kind, depth):
        node = _Node(CTF_STRUCT, AS_DICT)
        shown = model.visible_members(kind)
        hidden = _PACKET_ROLES if self._scope == "stream.packet.context" and depth == 0 else ()
        node.names = tuple([None if _role_of(member) in hidden else name for name, member in shown])
        frame = _Frame(node.known)
        self._frames.append(frame)
        for name, member in kind.members:
            frame.current = name
            child = self._compile(member, depth + 1)
            node.members.append(child)
            node.known[name] = child
        self._frames.pop()
        node.align = max([kind.align] + [child.align for child in node.members])
        return node

    def _elements(self, kind, node_kind, depth):
        element = self._compile(kind.element, depth + 1)
        node = _Node(node_kind, AS_LIST, max(kind.align, element.align))
        node.members = [element]
        if type(kind.element) is model.Integer and (element.size, element.align) == (8, 8):
            if kind.element.encoding:
                node.style = AS_STR
            elif kind.element.alias == "byte_t" and node_kind == CTF_SEQUENCE:
                node.style = AS_BYTES
        return node

    def _array(self, kind, depth):
        node = self._elements(kind, CTF_ARRAY, depth)
        node.length, node.role = kind.length, _ROLES.get(kind.role, 0)
        return node

    def _sequence(self, kind, depth):
        asked = self._length_of(kind)
        node = self._elements(kind, CTF_SEQUENCE, depth)
        node.asks = asked
        return node

    def _text(self, kind, depth):
        node = self._bytes(kind, AS_STR, depth)
        node.encoding = _ENCODINGS[kind.encoding]
        return node

    def _blob(self, kind, depth):
        node = self._bytes(kind, AS_BYTES, depth)
        node.role = _ROLES.get(kind.role, 0)
        return node

    def _bytes(self, kind, style, depth):
        is_static = isinstance(kind.length, int)
        asked = -1 if is_static else self._length_of(kind)
        element = self._compile(_BYTE, depth + 1)
        node = _Node(CTF_ARRAY if is_static else CTF_SEQUENCE, style, 8)
        node.members, node.asks = [element], asked
        node.length = kind.length if is_static else 0
        return node

    def _length_of(self, kind):
        asked = self._resolve(kind.length, kind.where)
        if asked.signed:
            raise TraceError(f"metadata {kind.where}: the length {kind.length} is signed")
        if asked.style in (AS_TRUTH, AS_FLAGS):
            raise TraceError(f"metadata {kind.where}: the length {kind.length} is not an integer")
        return asked.slot

    def _optional(self, kind, depth):
        selector = self._resolve(kind.selector, kind.where)
        is_boolean = selector.style == AS_TRUTH
        if is_boolean != (kind.ranges is None) or selector.style == AS_FLAGS:
            expected = "a boolean" if kind.ranges is None else "an integer"
            raise TraceError(f"metadata {kind.where}: the selector {kind.selector} is not {expected}")
        node = _Node(CTF_OPTIONAL, AS_OPTION)
        node.asks, node.signed = selector.slot, selector.signed
        node.members = [self._compile(kind.element, depth + 1)]
        for low, high in [(1, 2**64 - 1)] if is_boolean else kind.ranges:
            self._add_range(node, low, high, node.members[0])
        return node

    def _variant(self, kind, depth):
        if kind.tag is None:
            raise TraceError(f"metadata {kind.where}: a variant has no tag")
        tag = self._resolve(kind.tag, kind.where)
        if kind.ranges is None and tag.style != AS_ENUM:
            raise TraceError(f"metadata {kind.where}: the tag {kind.tag} is not an enumeration")
        if tag.style in (AS_TRUTH, AS_FLAGS):
            raise TraceError(f"metadata {kind.where}: the selector {kind.tag} is not an integer")
        node = _Node(CTF_VARIANT, AS_OPTION)
        node.asks, node.signed = tag.slot, tag.signed
        for index, (name, option) in enumerate(kind.options):
            child = self._compile(option, depth + 1)
            node.members.append(child)
            if kind.ranges is None:
                ranges = [(low, high) for label, low, high in tag.labels if _same_name(label, name)]
            else:
                ranges = kind.ranges[index]
            for low, high in ranges:
                self._add_range(node, low, high, child)
        return node

    def _add_range(self, node, low, high, option):
        """What no value of the selector can be is left out."""
        least, most = (-(2**63), 2**63 - 1) if node.signed else (0, 2**64 - 1)
        if low <= most and high >= least:
            node.ranges.append((max(low, least), min(high, most), option))

    def _resolve(self, path, where):
        """The integer at `path`, which from now on keeps its value in a slot; of several that exclude each other, one."""
        nodes = _numbers_in(self._find(path))
        if not nodes or len({node.signed for node in nodes}) > 1 or len({node.style == AS_TRUTH for node in nodes}) > 1:
            raise TraceError(f"metadata {where}: {path} is not an integer that can be referred to here")
        slots = {node.slot for node in nodes if node.slot >= 0}
        slot = min(slots) if slots else self._new_slot(nodes[0].is_shared)
        for other in slots - {slot}:
            self._same[other] = slot
        for node in nodes:
            node.slot = slot
        return nodes[0]

    def _find(self, path):
        """The nodes at a path: several if it leads through a variant."""
        if isinstance(path, model.Location):
            return self._find_location(path)
        for scope in (self._scope, *self._visible):
            if path.startswith(scope + "."):
                return self._find_from(scope, path[len(scope) + 1:].split("."))
        names = path.split(".")
        found = (self._descend(index, names) for index in range(len(self._frames) - 1, -1, -1))
        return next((nodes for nodes in found if nodes), [])

    def _find_location(self, location):
        if location.origin is not None:
            return self._find_from(location.origin, location.path) if None not in location.path else []
        ups = next(index for index, name in enumerate(location.path) if name is not None)
        start = len(self._frames) - 1 - ups
        return self._descend(start, location.path[ups:]) if start >= 0 and None not in location.path[ups:] else []

    def _find_from(self, scope, names):
        if scope == self._scope:
            return self._descend(0, names) if self._frames else []
        if scope not in self._visible or scope not in self._roots:
            return []
        if scope in _OUTER_SCOPES:
            self.asked_scopes.add(scope)
        nodes = [self._roots[scope]]
        for name in names:
            nodes = _members_called(nodes, name)
        return nodes

    def _descend(self, index, names):
        """From a structure that is being compiled."""
        names = list(names)
        while len(names) > 1 and self._frames[index].current == names[0] and index + 1 < len(self._frames):
            index += 1
            names.pop(0)
        node = self._frames[index].known.get(names[0])
        nodes = [] if node is None else [node]
        for name in names[1:]:
            nodes = _members_called(nodes, name)
        return nodes


def _options_in(nodes):
    """The same with the options of variants in place of these."""
    for node in nodes:
        if node.kind in (CTF_VARIANT, CTF_OPTIONAL):
            yield from _options_in(node.members)
        else:
            yield node


def _members_called(nodes, name):
    found = [node.known.get(name) for node in _options_in(nodes)]
    return [node for node in found if node is not None]


def _numbers_in(nodes):
    """All of them, or none if one is no integer."""
    found = list(_options_in(nodes))
    return found if all(node.kind in (CTF_INTEGER, CTF_VARINT) for node in found) else []


#: Roles of the members of a packet's context that say no more than `Packet` does.
_PACKET_ROLES = frozenset(model.ROLES) - {model.CPU}


def _role_of(kind):
    return getattr(kind.container if isinstance(kind, model.Enum) else kind, "role", None)


def _same_name(label, option):
    # Either may have the underscore that keeps a name from being a keyword.
    return label == option or label.removeprefix("_") == option.removeprefix("_")


def _fixed_size(node):
    """Bits from the aligned start to the end; -1 if they vary, or if the walk must look at what is inside."""
    if node.role:
        return -1
    if node.kind in (CTF_INTEGER, CTF_FLOAT):
        return -1 if node.slot >= 0 else node.size
    if node.kind == CTF_STRUCT:
        return _fixed_sum(node.members)
    if node.kind == CTF_ARRAY:
        element = node.members[0]
        if element.fixed < 0:
            return -1
        size = (node.length - 1) * _round_up(element.fixed, element.align) + element.fixed if node.length else 0
        if size > _MAX_FIXED:
            raise TraceError("metadata: an array is too long")
        return size
    return -1


def _fixed_sum(nodes):
    size = 0
    for node in nodes:
        if node.fixed < 0:
            return -1
        size = _round_up(size, node.align) + node.fixed
        if size > _MAX_FIXED:
            raise TraceError("metadata: a structure is too large")
    return size


def _round_up(size, align):
    return (size + align - 1) // align * align


@functools.lru_cache(maxsize=16)
def _plain_shape(header, holes, header_align):
    """Shape of the event header that ringbuf (or, without holes, LTTng) declares."""
    layout = ChannelLayout(bytes(16), header, False, ClockInfo(1, name="c"), holes=holes, header_align=header_align)
    kind = tsdl.parse(channel_metadata(layout)).streams[0].event_header
    return _shape(_Compiler("le").root("stream.event.header", kind), 0)


def _header_kind(node, first_slot):
    """(CTF_HEADER_*, has holes) of an event header's node, whose slots begin with that one."""
    any_header = CTF_HEADER_ANY, False
    if node is None or sys.byteorder != "little" or node.align < 8:
        return any_header
    members = list(node.known.values())
    if len(members) != 2 or members[0].kind != CTF_INTEGER or members[1].kind != CTF_VARIANT:
        return any_header
    name, kind = ("compact", CTF_HEADER_COMPACT) if members[0].size == 5 else ("large", CTF_HEADER_LARGE)
    holes = len(members[1].members) == 3
    return (kind, holes) if _shape(node, first_slot) == _plain_shape(name, holes, node.align // 8) else any_header


def _shape(node, first_slot):
    """All that matters to a walk over it: nodes of the same shape are walked alike."""
    slots = [slot - first_slot if slot >= 0 else -1 for slot in (node.slot, node.asks)]
    ranges = [(low, high, node.members.index(option)) for low, high, option in node.ranges]
    numbers = node.kind, node.align, node.size, node.signed, node.big_endian and node.size > 8, node.is_odd, node.role
    return numbers, node.length, slots, ranges, [_shape(member, first_slot) for member in node.members]


def _labels(labels):
    """{value: label}, or the labels as they are if some stand for a range."""
    if any(low != high for _, low, high in labels):
        return labels
    return {low: label for label, low, _ in reversed(labels)}


cdef object _label_of(labels, number):
    if isinstance(labels, dict):
        return (<dict>labels).get(number, number)
    return next((label for label, low, high in labels if low <= number <= high), number)


def _base_ns(clock):
    """Time of tick 0 in nanoseconds, rounded as babeltrace2 does: whole seconds apart from the rest."""
    seconds, ticks = divmod(clock.offset, clock.freq)
    rest = ticks if clock.freq == 10**9 else int(1e9 * float(ticks) / float(clock.freq))
    return (clock.offset_s + seconds) * 10**9 + rest


def _index(node):
    return -1 if node is None else node.index


def _only_bytes(fields):
    """Index of the node of the only field shown, if it is bytes; else -1."""
    shown = [] if fields is None else [node for name, node in zip(fields.names, fields.members) if name is not None]
    return shown[0].index if len(shown) == 1 and shown[0].style == AS_BYTES else -1


# ---- columns ----


class _Column:
    """A member of a structure that is a column."""

    __slots__ = ("name", "dtype", "elements", "step", "encoding")

    def __init__(self, name, node):
        self.name, self.dtype = name, _dtype_of(node)
        self.elements = _elements_of(node)  # dtype of a sequence's elements as they are in the packet
        self.step, self.encoding = _step_of(self.dtype, node, self.elements), node.encoding


def _step_of(dtype, node, elements):
    """How a value gets to its row."""
    if dtype != "O":
        return CTF_STEP_STORE
    if node.style == AS_STR:
        return CTF_STEP_TEXT
    return CTF_STEP_BYTES if node.style == AS_BYTES or elements is not None else CTF_STEP_OBJECT


class _Columns:
    """The columns of an event class."""

    def __init__(self, name, scopes, is_fixed, is_short):
        self._name = name
        self.parts = []  # of each structure there is: a column, or None, for each member
        self.copies = _copies(scopes) if is_fixed else None  # (from, to, size, is_bool) in bytes
        self._spec = [("timestamp", "i8"), ("cpu", "i4")]
        taken = {"timestamp", "cpu"}
        for scope, node in scopes:
            if node is not None:
                self.parts.append([self._column(scope, name, member, taken) for name, member in zip(node.names, node.members)])
        columns = [column for part in self.parts for column in part if column is not None]
        # With one that is an object, all that vary in size are.
        self.has_objects = any(column.step == CTF_STEP_OBJECT for column in columns)
        self.varying = {column.name: column for column in columns if column.dtype == "O"}
        is_varying = is_short and self.copies is None and not self.has_objects
        self.ops = _ops([node for _, node in scopes if node is not None], self.parts) if is_varying else None

    def cells(self, decoder, parts):
        """(CTF_STEP_*, node, elements) for each step through a row, whose structures are the nodes `parts`."""
        for part, columns in zip(parts, self.parts):
            yield CTF_STEP_ALIGN, part, None
            for column, member in zip(columns, decoder.members_of(part)):
                if column is None:
                    yield CTF_STEP_SKIP, member, None
                else:
                    is_object = self.has_objects and column.name in self.varying
                    yield CTF_STEP_OBJECT if is_object else column.step, member, column.elements

    def _column(self, scope, name, member, taken):
        if name is None:
            return None
        while name in taken:
            name = f"{scope}.{name}"
        taken.add(name)
        column = _Column(name, member)
        self._spec.append((name, column.dtype))
        return column

    def check(self, limit):
        """NumPy's own sizes wrap around."""
        size = _dtype_size(self._spec)
        if size > limit:
            raise TraceError(f"event {self._name!r}: a row takes {size} bytes, more than limits.row_size allows ({limit})")
        if _dtype_size(self._spec, 1) > limit:
            raise TraceError(f"event {self._name!r}: elements of an empty array take more bytes than limits.row_size allows")

    def dtype(self):
        return _numpy().dtype(self._spec)

    def dtype_in_place(self):
        """Of the contexts and fields as they are in a packet, or None."""
        if not self.copies or any(is_bool for _, _, _, is_bool in self.copies):
            return None
        names, formats, offsets, to = [], [], [], CTF_ROW_PREFIX
        for name, dtype in self._spec[2:]:
            size = _dtype_size(dtype)
            found = [start + to - at for start, at, whole, _ in self.copies if at <= to and to + size <= at + whole]
            if not found:
                return None
            names.append(name)
            formats.append(dtype)
            offsets.append(found[0])
            to += size
        return _numpy().dtype({"names": names, "formats": formats, "offsets": offsets})

    def plain_dtype(self):
        """Of the rows as they are filled."""
        if self.has_objects:
            return _numpy().dtype([(name, dtype) for name, dtype in self._spec if dtype != "O"])
        return _numpy().dtype([(name, ("u8", (2,)) if dtype == "O" else dtype) for name, dtype in self._spec])


def _dtype_size(dtype, least=0):
    """Bytes of what _dtype_of() has returned, or of a list of columns, of any size; as if arrays had `least` elements."""
    if isinstance(dtype, list):
        return sum(_dtype_size(member, least) for _, member in dtype)
    if isinstance(dtype, tuple):
        return _dtype_size(dtype[0], least) * max(dtype[1][0], least)
    return {"?": 1, "O": 8}.get(dtype) or int(dtype[1:])


def _dtype_of(node):
    """What numpy.dtype() takes, or "O"."""
    if node.kind in (CTF_INTEGER, CTF_VARINT):
        return "?" if node.style in (AS_BOOL, AS_TRUTH) else f"{'i' if node.signed else 'u'}{_bytes_of(node)}"
    if node.kind == CTF_FLOAT:
        return f"f{_bytes_of(node)}"
    if node.kind == CTF_ARRAY and node.style == AS_LIST and node.length < MAX_ARRAY:
        inner = _dtype_of(node.members[0])
        return "O" if inner == "O" or not _dtype_size(inner) else (inner, (node.length,))  # NumPy has none of no bytes
    if node.kind == CTF_STRUCT and node.members and None not in node.names and len(set(node.names)) == len(node.names):
        inner = [(name, _dtype_of(member)) for name, member in zip(node.names, node.members)]
        return "O" if any(dtype == "O" for _, dtype in inner) else inner
    return "O"


def _bytes_of(node):
    """Bytes of the smallest number that holds this one."""
    if node.kind == CTF_FLOAT:
        return 4 if node.size <= 32 else 8
    return 1 if node.size <= 8 else 2 if node.size <= 16 else 4 if node.size <= 32 else 8


def _elements_of(node):
    if node.kind != CTF_SEQUENCE or node.style != AS_LIST:
        return None
    element = node.members[0]
    if element.kind not in (CTF_INTEGER, CTF_FLOAT) or element.size not in (8, 16, 32, 64) or element.is_odd:
        return None
    if element.align % 8 or element.size % element.align:
        return None
    if element.style == AS_TRUTH and element.size != 8:
        return None
    dtype = _dtype_of(element)
    return dtype if dtype == "?" else (">" if element.big_endian else "<") + dtype


def _numbers(data, elements):
    """An array of what `elements` says of bytes in a packet, as the host has it."""
    if elements == "?":
        return _numpy().frombuffer(data, "u1") != 0
    cells = _numpy().frombuffer(data, elements)
    return cells.astype(cells.dtype.newbyteorder("="))


def _copies(scopes):
    """How to copy all columns of an event whose ctf_event.fixed is known, or None if a value must be converted."""
    copies, position, to = [], 0, CTF_ROW_PREFIX
    for _, node in scopes:
        if node is None:
            continue
        position = _round_up(position, node.align)
        leaves = _leaves(node, position)
        if leaves is None:
            return None
        for start, size, is_bool in leaves:
            copies.append((start, to, size, is_bool))
            to += size
        position += node.fixed
    return _joined(copies)


def _leaves(node, position):
    """The numbers within `node` as (offset, bytes, is a bool), or None if one cannot be copied as it is."""
    if node.kind == CTF_STRUCT:
        leaves = []
        for member in node.members:
            position = _round_up(position, member.align)
            inner = _leaves(member, position)
            if inner is None:
                return None
            leaves += inner
            position += member.fixed
        return leaves
    number = node.members[0] if node.kind == CTF_ARRAY and node.length < MAX_ARRAY else node
    if number.kind not in (CTF_INTEGER, CTF_FLOAT) or number.is_odd or number.style == AS_TRUTH or node.style not in (
        AS_INT, AS_BOOL, AS_FLAGS, AS_ENUM, AS_FLOAT, AS_LIST
    ):
        return None
    if position % 8 or number.size not in (8, 16, 32, 64) or number.size > 8 and number.big_endian:
        return None
    if number is node:
        return [(position // 8, number.size // 8, number.style == AS_BOOL)]
    if number.style == AS_BOOL or number.size % number.align:
        return None
    return [(position // 8, node.length * number.size // 8, False)]


def _joined(copies):
    """The same copies, with neighbours made one."""
    joined = []
    for start, to, size, is_bool in copies:
        if joined and not is_bool:
            last_start, last_to, last_size, last_bool = joined[-1]
            if not last_bool and (last_start + last_size, last_to + last_size) == (start, to):
                joined[-1] = (last_start, last_to, last_size + size, False)
                continue
        joined.append((start, to, size, is_bool))
    return joined


def _ops(parts, columns):
    """(CTF_MOVE_*, size, to, slot, length) for each step to a row, or None if some value needs more than these."""
    ops, to = [], CTF_ROW_PREFIX
    for part, of_part in zip(parts, columns):
        if part.align > 8:
            return None
        for member, column in zip(part.members, of_part):
            steps = None if member.align > 8 or member.role else _moves(member, column, to)
            if steps is None:
                return None
            ops += steps
            to += 0 if column is None else 16 if column.dtype == "O" else _dtype_size(column.dtype)
    return _joined_moves(ops)


def _moves(node, column, to):
    """Of one member."""
    if node.slot >= 0:
        is_plain = node.kind == CTF_INTEGER and not node.is_odd and node.size in (8, 16, 32, 64) and (
            node.style in (AS_INT, AS_ENUM) and not (node.size > 8 and node.big_endian)
        )
        return [(CTF_MOVE_KEEP, node.size // 8, 0 if column is None else to, node.slot, 0)] if is_plain else None
    if column is None:
        return [(CTF_MOVE_SKIP, node.fixed // 8, 0, -1, 0)] if node.fixed >= 0 and node.fixed % 8 == 0 else None
    if column.step == CTF_STEP_STORE:
        leaves = _leaves(node, 0) if node.fixed >= 0 else None
        if leaves is None or sum(size for _, size, _ in leaves) * 8 != node.fixed:
            return None
        return [(CTF_MOVE_BOOL if is_bool else CTF_MOVE_COPY, size, to + at, -1, 0) for at, size, is_bool in leaves]
    if node.encoding:
        return None
    if node.kind == CTF_STRING:
        return [(CTF_MOVE_TEXT, 0, to, -1, 0)]
    move = CTF_MOVE_CHARS if column.step == CTF_STEP_TEXT else CTF_MOVE_MANY
    element = node.members[0]
    return [(move, element.size // 8, to, node.asks, node.length)] if element.fixed == element.size else None


def _joined_moves(ops):
    """The same ops, with neighbours that copy made one."""
    joined = []
    for op in ops:
        if joined and op[0] == joined[-1][0] == CTF_MOVE_COPY and joined[-1][2] + joined[-1][1] == op[2]:
            joined[-1] = (CTF_MOVE_COPY, joined[-1][1] + op[1], joined[-1][2], -1, 0)
        else:
            joined.append(op)
    return joined


def empty_rows(count, dtype):
    """Rows to be filled. Where there are objects, numpy.empty() takes 40 times as long: it fills in None."""
    return _numpy().zeros(count, dtype) if dtype.hasobject else _numpy().empty(count, dtype)


def plain_rows(rows):
    """Rows of a `Table` as a structured array."""
    return rows.to_numpy() if isinstance(rows, Rows) else rows


def _numpy():
    # Not at the top: `import ringbuf` must not pay for it.
    import numpy

    return numpy


# ---- what is handed out ----


@cython.final
cdef class Packet:
    """A packet of a stream: where it is, and what its header says.

    Attributes
    ----------
    file : str or None
        Name of the file it is in.
    offset, size : int
        Where the packet begins in its file or buffer, and its size, in bytes.
    content_size : int
        Bytes of header and events; what follows is padding.
    begin, end : int
        Nanoseconds since the Unix epoch. A trace may leave them out: None.
    begin_ticks, end_ticks : int
        The same in ticks of the clock, or None.
    sequence_number, events_discarded : int
        As counted by the producer since the stream began, or None.
    cpu : int or None
    stream_id, stream_instance_id : int
        Stream class, and the stream within it (None if the trace leaves it out).
    context : dict of str to value
        What else the tracer says of the packet, and the CPU under its name there.
    """

    cdef readonly object file, offset, size, content_size
    cdef readonly object begin, end, begin_ticks, end_ticks
    cdef readonly object sequence_number, events_discarded, cpu
    cdef readonly object stream_id, stream_instance_id
    cdef readonly dict context
    cdef uint64_t _first_event, _content_bits, _first_ticks, _context_pos
    cdef uint32_t _stream_index

    @property
    def header_bits(self):
        """int: of header and context, before the first event."""
        return self._first_event

    def __repr__(self):
        return (
            f"Packet(offset={self.offset}, size={self.size}, begin={self.begin}, end={self.end}, "
            f"sequence_number={self.sequence_number}, events_discarded={self.events_discarded}, cpu={self.cpu})"
        )


@cython.final
cdef class _EventInfo:
    """The Python side of an event class."""

    cdef readonly object name, id, stream_id
    cdef readonly object columns  # _Columns
    cdef int32_t stream_context, context, fields
    cdef int32_t data_node  # the only field, if it is bytes; else -1


@cython.final
@cython.freelist(256)
cdef class Record:
    """One event that was recorded. It owns its bytes, and outlives the packet.

    Attributes
    ----------
    timestamp : int
        Clock ticks; in the records of a trace, nanoseconds since the Unix epoch.
    ticks, time_ns : int
        Always clock ticks, always nanoseconds since the Unix epoch. All three are None
        where the trace has no clock.
    name : str
    event_id : int
    cpu : int or None
    contexts, fields : dict of str to value
        Decoded when first asked for. An event's own context hides one of its
        stream that has the same name. Integers, floats, bools, str and bytes as
        such; sequences and arrays as lists; structures as dicts; an
        enumeration as its first label that fits, or the int if none does.
    payload : bytes
        The bytes of the fields; of an event whose only field is ``bytes``, its
        data.

    Records are equal if time, name, cpu, contexts and fields are.

    Thread safety: any number of threads.
    """

    cdef Decoder _decoder
    cdef _EventInfo _event
    cdef bytes _bytes
    cdef bytes _outside  # values of slots that the packet or the event's header has set; mostly None
    cdef uint64_t _origin, _begin, _end
    cdef bint _in_ns
    cdef object _contexts, _fields
    cdef uint64_t _ticks
    cdef int64_t _time_ns
    cdef readonly object cpu

    @property
    def timestamp(self):
        if self._time_ns == NO_TIME:
            return None
        return self._time_ns if self._in_ns else self._ticks

    @property
    def ticks(self):
        return None if self._time_ns == NO_TIME else self._ticks

    @property
    def time_ns(self):
        return None if self._time_ns == NO_TIME else self._time_ns

    def time_of(self, uint64_t ticks):
        """What `timestamp` would be at that time of the same clock; of what cannot be, of later times too, its own."""
        cdef const ctf_stream *s = &self._decoder._streams[self._decoder._stream_indexes[self._event.stream_id]]
        if self._time_ns == NO_TIME or ticks > self._ticks:
            return self.timestamp
        return ctf_time_ns(&s.clock, ticks) if self._in_ns else ticks

    @property
    def name(self):
        return self._event.name

    @property
    def event_id(self):
        return self._event.id

    @property
    def contexts(self):
        with cython.critical_section(self):
            if self._contexts is None:
                self._decode()
            return self._contexts

    @property
    def fields(self):
        with cython.critical_section(self):
            if self._fields is None:
                self._decode()
            return self._fields

    @property
    def payload(self):
        return self._decoder._payload(self)

    cdef _decode(self):
        self._contexts, self._fields = self._decoder._decode_record(self)

    def __eq__(self, other):
        if not isinstance(other, Record):
            return NotImplemented
        return (
            self._time_ns == (<Record>other)._time_ns
            and self.name == (<Record>other).name
            and self.cpu == (<Record>other).cpu
            and self.contexts == (<Record>other).contexts
            and self.fields == (<Record>other).fields
        )

    def __hash__(self):
        return hash((self._time_ns, self.name, self.cpu))

    def __repr__(self):
        contexts = f", contexts={self.contexts}" if self.contexts else ""
        return f"Record({self.timestamp}, {self.name!r}, cpu={self.cpu}{contexts}, fields={self.fields})"


# ---- decoding ----


@cython.final
cdef class Decoder:
    """Decodes the packets of one channel or trace.

    Parameters
    ----------
    source : ChannelLayout or tsdl.Trace
        What the packets contain.
    limits : limits.Limits, optional

    Raises
    ------
    TraceError
        The types cannot be decoded; says which.

    Thread safety: any number of threads; an iterator belongs to one of them.
    """

    cdef readonly object model, limits
    cdef uint64_t _empty_values, _seconds
    cdef bint _checks_uuid  # whether packets of another channel are refused
    cdef ctf_plan _plan
    cdef ctf_node *_nodes
    cdef int32_t *_members
    cdef ctf_range *_ranges
    cdef uint8_t *_styles
    cdef ctf_stream *_streams
    cdef uint32_t _n_streams, _n_events, _n_members
    cdef int32_t _packet_header
    cdef uint32_t _n_shared  # slots that are not an event's own
    cdef list _infos  # by node: names of a structure's members, labels of an enumeration
    cdef dict _all_labels  # of enumerations by node, also those that others hide
    cdef list _events  # of _EventInfo, by index
    cdef dict _stream_indexes  # stream id -> index
    cdef list _seen  # texts of late, by a hash: the same few come again and again

    def __cinit__(self, source, limits=_limits.DEFAULT):
        self.limits, self._empty_values, self._seconds = limits, limits.empty_values, limits.seconds
        self._checks_uuid = isinstance(source, ChannelLayout)
        self.model = tsdl.parse(channel_metadata(source)) if self._checks_uuid else source
        self._seen = [None] * TEXTS_SEEN
        self._compile()

    def __dealloc__(self):
        cdef uint32_t i
        for i in range(self._n_streams):
            PyMem_Free(self._streams[i].events)
        PyMem_Free(self._streams)
        PyMem_Free(self._nodes)
        PyMem_Free(self._members)
        PyMem_Free(self._ranges)
        PyMem_Free(self._styles)

    # -- building the plan --

    cdef _compile(self):
        compiler = _Compiler(self.model.byte_order)
        header = compiler.root("trace.packet.header", self.model.packet_header)
        streams = [self._compile_stream(compiler, stream) for stream in self.model.streams.values()]
        compiler.finish()
        self._plan.n_slots = compiler.n_slots + compiler.max_event_slots
        self._n_shared = compiler.n_slots
        self._store_nodes(compiler.nodes)
        self._packet_header = -1 if header is None else header.index
        self._store_streams(streams)

    cdef _compile_stream(self, compiler, stream):
        compiler.asked_scopes = set()
        context = compiler.root("stream.packet.context", stream.packet_context, _OUTER_SCOPES[:1])
        header_slot = compiler.n_slots
        header = compiler.root("stream.event.header", stream.event_header, _OUTER_SCOPES[:2])
        asked_before = compiler.asked_scopes
        compiler.asked_scopes = set()
        common = compiler.root("stream.event.context", stream.event_context, _OUTER_SCOPES)
        events = []
        for event in sorted(stream.events.values(), key=lambda one: one.id):
            # Only one event is decoded at a time: all of them share slots.
            compiler.n_event_slots = 0
            own = compiler.root("event.context", event.context, (*_OUTER_SCOPES, "stream.event.context"))
            fields = compiler.root(
                "event.fields", event.fields, (*_OUTER_SCOPES, "stream.event.context", "event.context")
            )
            events.append((event, own, fields))
        return stream, (context, header, common), header_slot, asked_before, compiler.asked_scopes, events

    cdef _store_nodes(self, nodes):
        cdef ctf_node *n
        n_members = sum(len(node.members) for node in nodes if node.kind == CTF_STRUCT)
        n_ranges = sum(len(node.ranges) for node in nodes)
        self._nodes = <ctf_node *>_calloc(len(nodes), sizeof(ctf_node))
        self._styles = <uint8_t *>_calloc(len(nodes), 1)
        self._members = <int32_t *>_calloc(n_members, sizeof(int32_t))
        self._ranges = <ctf_range *>_calloc(n_ranges, sizeof(ctf_range))
        self._plan.nodes, self._plan.members, self._plan.ranges = self._nodes, self._members, self._ranges
        self._infos = []
        self._all_labels = {node.index: node.labels for node in nodes if node.labels}
        self._n_members = n_members
        n_members = n_ranges = 0
        for node in nodes:
            n = &self._nodes[<uint32_t>node.index]
            n.kind, n.align, n.size, n.fixed = node.kind, node.align, node.size, node.fixed
            n.is_signed, n.is_big_endian, n.is_bool = node.signed, node.big_endian, node.style in (AS_BOOL, AS_TRUTH)
            n.role, n.is_odd, n.is_reversed, n.encoding = node.role, node.is_odd, node.is_reversed, node.encoding
            n.slot, n.asks, n.length, n.base = node.slot, node.asks, node.length, node.base
            self._styles[<uint32_t>node.index] = node.style
            self._infos.append(_labels(node.labels) if node.style == AS_ENUM else node.names)
            if node.kind == CTF_STRUCT:
                n.first, n.count = n_members, len(node.members)
                for member in node.members:
                    self._members[<uint32_t>n_members] = member.index
                    n_members += 1
            elif node.kind in (CTF_VARIANT, CTF_OPTIONAL):
                n.first, n.count = n_ranges, len(node.ranges)
                for low, high, option in node.ranges:
                    self._ranges[<uint32_t>n_ranges].low = low & 0xFFFFFFFFFFFFFFFF
                    self._ranges[<uint32_t>n_ranges].high = high & 0xFFFFFFFFFFFFFFFF
                    self._ranges[<uint32_t>n_ranges].node = option.index
                    n_ranges += 1
            elif node.members:
                n.first = node.members[0].index

    cdef _store_streams(self, streams):
        cdef ctf_stream *s
        cdef ctf_event *e
        cdef uint32_t i
        self._events, self._stream_indexes = [], {}
        self._streams = <ctf_stream *>_calloc(len(streams), sizeof(ctf_stream))
        for stream, (context, header, common), header_slot, asked_before, asked, events in streams:
            s = &self._streams[self._n_streams]
            s.events = <ctf_event *>_calloc(len(events), sizeof(ctf_event))
            self._stream_indexes[stream.id] = self._n_streams
            self._n_streams += 1
            s.id = stream.id
            s.packet_context, s.event_header, s.event_context = _index(context), _index(header), _index(common)
            # A header that is not walked over keeps no values for those who ask.
            is_asked = "stream.event.header" in asked
            s.header_kind, s.has_holes = _header_kind(None if is_asked else header, header_slot)
            s.header_align = header.align if s.header_kind != CTF_HEADER_ANY else 1
            s.asks_packet = not asked_before.union(asked).isdisjoint(_OUTER_SCOPES[:2])
            s.asks_outside = bool(asked)
            self._store_clock(&s.clock, stream)
            s.n_events = len(events)
            for i, (event, own, fields) in enumerate(events):
                e = &s.events[i]
                parts = [node for node in (common, own, fields) if node is not None]
                e.id, e.index = event.id, len(self._events)
                e.context, e.fields = _index(own), _index(fields)
                e.fixed = -1
                # After a plain header the contexts begin on a byte, so small alignments need no look at the position.
                if s.header_kind != CTF_HEADER_ANY and all(node.align <= 8 for node in parts):
                    e.fixed = _fixed_sum(parts)
                is_short = s.header_kind != CTF_HEADER_ANY
                self._events.append(self._event_info(event, common, own, fields, e.fixed >= 0, is_short))

    cdef _store_clock(self, ctf_clock *clock, stream):
        if stream.clock is None:
            clock.freq, clock.base_ns, clock.max_ticks = 10**9, NO_TIME, 2**64 - 1
            return
        name = stream.clock
        info = self.model.clocks.get(name)
        if info is None:
            raise TraceError(f"metadata: clock {name!r} is not declared")
        base = _base_ns(info)
        if not -(2**63) <= base < 2**63 or info.freq >= 2**64:
            raise TraceError(f"metadata: clock {name!r} is beyond the range of 64-bit nanoseconds")
        clock.freq, clock.base_ns = info.freq, base
        # 2**12: the largest rounding error of the floating-point conversion, and more.
        clock.max_ticks = min(2**64 - 1, max(0, (2**63 - 1 - 2**12 - max(base, 0)) * info.freq // 10**9))

    cdef _event_info(self, event, common, own, fields, is_fixed, is_short):
        cdef _EventInfo info = _EventInfo.__new__(_EventInfo)
        info.name, info.id, info.stream_id = event.name, event.id, event.stream_id
        info.stream_context, info.context, info.fields = _index(common), _index(own), _index(fields)
        scopes = [("context", common), ("event_context", own), ("field", fields)]
        info.columns = _Columns(event.name, scopes, is_fixed, is_short)
        info.data_node = _only_bytes(fields)
        return info

    # -- packets --

    def read_packet(self, buffer, Py_ssize_t offset=0, *, available=None, file=None, position=None):
        """Read the header of a packet.

        Parameters
        ----------
        buffer : bytes-like
            Has at least the packet's header at `offset`.
        offset : int
            Where in `buffer` the packet begins.
        available : int, optional
            Bytes there are from the packet's beginning on; by default what is
            left of `buffer`. The packet must fit.
        file, position : str, int, optional
            Where the packet is, for its attributes and for error messages; by
            default `position` is `offset`.

        Returns
        -------
        Packet

        Raises
        ------
        TraceError
            There is no valid packet.
        """
        cdef const uint8_t[::1] view = buffer
        cdef Packet packet = Packet.__new__(Packet)
        packet.file, packet.offset = file, offset if position is None else position
        if not 0 <= offset <= view.shape[0]:
            raise ValueError(f"offset {offset} is outside the buffer of {view.shape[0]} bytes")
        available = view.shape[0] - offset if available is None else available
        cdef ctf_cursor c
        memset(&c, 0, sizeof(c))
        if offset == view.shape[0]:
            raise self._packet_error(packet, "the file ends before it")
        c.data = &view[offset]
        c.end = 8 * <uint64_t>(view.shape[0] - offset)
        ctf_set_budget(&c, self._empty_values, self._seconds, ctf_look_for_signals)
        c.slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        try:
            self._read_header(packet, &c, available)
        except _Corrupt as error:
            raise self._packet_error(packet, str(error)) from None
        finally:
            PyMem_Free(c.slots)
        return packet

    cdef _read_header(self, Packet packet, ctf_cursor *c, available):
        cdef uint64_t roles[CTF_N_ROLES]
        memset(roles, 0, sizeof(roles))
        c.roles = roles
        if self._packet_header >= 0 and ctf_walk(&self._plan, self._packet_header, c):
            _fail(c)
        self._check_identity(c)
        packet.stream_id = _role(c, CTF_ROLE_STREAM_ID) or 0
        packet.stream_instance_id = _role(c, CTF_ROLE_INSTANCE_ID)
        if packet.stream_id not in self._stream_indexes:
            raise _Corrupt(f"it belongs to stream {packet.stream_id}, which the metadata lacks")
        packet._stream_index = self._stream_indexes[packet.stream_id]
        cdef const ctf_stream *s = self._stream_of(packet)
        self._read_context(packet, s, c)
        packet.cpu = _role(c, CTF_ROLE_CPU)
        packet.sequence_number = _role(c, CTF_ROLE_SEQUENCE_NUMBER)
        packet.events_discarded = _role(c, CTF_ROLE_DISCARDED)
        packet.begin_ticks, packet.end_ticks = _role(c, CTF_ROLE_CLOCK), _role(c, CTF_ROLE_END)
        packet.begin, packet.end = self._time(s, packet.begin_ticks), self._time(s, packet.end_ticks)
        packet._first_ticks = 0 if packet.begin is None else packet.begin_ticks
        packet._first_event = c.pos
        self._set_sizes(packet, _role(c, CTF_ROLE_CONTENT_SIZE), _role(c, CTF_ROLE_PACKET_SIZE), available)

    cdef _check_identity(self, const ctf_cursor *c):
        magic, uuid_at = _role(c, CTF_ROLE_MAGIC), _role(c, CTF_ROLE_UUID)
        if magic is not None and magic != model.PACKET_MAGIC:
            raise _Corrupt(f"its magic number is {magic:#x}, not {model.PACKET_MAGIC:#x}")
        # In files others read a packet of whatever UUID.
        if self._checks_uuid and uuid_at is not None:
            if PyBytes_FromStringAndSize(<const char *>ctf_at(c, uuid_at), 16) != self.model.uuid:
                raise _Corrupt("its UUID is not the trace's")

    cdef _read_context(self, Packet packet, const ctf_stream *s, ctf_cursor *c):
        cdef ctf_cursor start = c[0]
        packet._context_pos, packet.context = c.pos, {}
        if s.packet_context < 0:
            return
        if ctf_walk(&self._plan, s.packet_context, c):
            _fail(c)
        if any([name is not None for name in self._infos[s.packet_context]]):
            start.roles = NULL
            packet.context = self._build(s.packet_context, &start)

    cdef _set_sizes(self, Packet packet, content, size, available):
        size = (8 * available if content is None else content) if size is None else size
        content = size if content is None else content
        if size % 8 or size == 0 or not packet._first_event <= content <= size:
            raise _Corrupt(f"its content_size {content} and packet_size {size} (bits) are impossible")
        if size > 8 * available:
            raise _Corrupt(f"it has {size // 8} bytes, but the file ends after {available}")
        if content > 8 * self.limits.packet_size:
            raise _Corrupt(f"its content has {content // 8} bytes, more than limits.packet_size allows "
                           f"({self.limits.packet_size})")
        packet.size, packet.content_size = size // 8, (content + 7) // 8
        packet._content_bits = content

    cdef const ctf_stream *_stream_of(self, Packet packet) except NULL:
        if packet._stream_index >= self._n_streams:
            raise ValueError("the packet is not of this decoder's trace")
        return &self._streams[packet._stream_index]

    cdef _time(self, const ctf_stream *s, ticks):
        if ticks is None or s.clock.base_ns == NO_TIME:
            return None
        if ticks > s.clock.max_ticks:
            raise _Corrupt("its time is beyond the range of 64-bit nanoseconds")
        return ctf_time_ns(&s.clock, ticks)

    def packets(self, buffer):
        """The packets that follow one another in `buffer`, as an iterator.

        Raises
        ------
        TraceError
            When it comes to something that is no packet.
        """
        view = memoryview(buffer).cast("B")
        offset = 0
        while offset < len(view):
            packet = self.read_packet(view, offset)
            yield packet
            offset += packet.size

    def _packet_error(self, packet, reason):
        where = f"{packet.file}: " if packet.file is not None else ""
        return TraceError(f"{where}packet at byte {packet.offset}: {reason}")

    # -- records --

    def records(self, buffer, cpu=None):
        """The events of one packet, or of several that follow one another.

        Parameters
        ----------
        buffer : bytes-like
            The packets. It must stay as it is until the iterator has ended;
            records do not need it.
        cpu : int, optional
            For packets that do not say which CPU they are from.

        Returns
        -------
        iterator of Record
            In the order of the buffer. Times are in ticks.

        Raises
        ------
        TraceError
            From the iterator: a packet is damaged. None of its records is
            returned.
        """
        for packet in self.packets(buffer):
            yield from self.packet_records(buffer, packet, cpu=cpu)

    def packet_records(self, buffer, Packet packet not None, *, offset=None, cpu=None, in_ns=False, check=True):
        """The events of a packet, as an iterator of Record.

        Parameters
        ----------
        buffer : bytes-like
        packet : Packet
            From `read_packet`.
        offset : int, optional
            Where in `buffer` it begins; by default ``packet.offset``.
        cpu : int, optional
            See `records`.
        in_ns : bool
            Whether ``Record.timestamp`` is in nanoseconds.
        check : bool
            Whether to walk over the whole packet first. Without, the iterator gives the
            events before the damage, and then raises.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        if check:
            self.count_events(buffer, packet, self.new_counts(), offset=offset)
        cdef _Records records = _Records.__new__(_Records)
        records._decoder, records._packet, records._in_ns = self, packet, in_ns
        records._cpu = cpu if packet.cpu is None else packet.cpu
        records._view = buffer
        records._slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        self._begin(&records._cursor, records._view, packet, offset, records._slots)
        return records

    cdef int _begin(self, ctf_cursor *c, const uint8_t[::1] view, Packet packet, offset, uint64_t *slots) except -1:
        """A cursor at the first event of a packet."""
        cdef Py_ssize_t start = packet.offset if offset is None else offset
        if start < 0 or start + packet.content_size > view.shape[0]:
            raise ValueError(f"the packet of {packet.size} bytes is not in the buffer at {start}")
        memset(c, 0, sizeof(ctf_cursor))
        c.data = &view[start]
        c.slots, c.end = slots, packet._content_bits
        if self._stream_of(packet).asks_packet:
            ctf_set_budget(c, self._empty_values, self._seconds, ctf_look_for_signals)
            self._walk_header(c, self._stream_of(packet))
        c.pos, c.ticks = packet._first_event, packet._first_ticks
        ctf_set_budget(c, self._empty_values, self._seconds, ctf_look_for_signals)
        return 0

    cdef _walk_header(self, ctf_cursor *c, const ctf_stream *s):
        """Over the header and the context of a packet, of which the events ask something."""
        for node in (self._packet_header, s.packet_context):
            if node >= 0 and ctf_walk(&self._plan, node, c):
                raise _Corrupt("the packet changed while it was read")

    def new_counts(self):
        """Zeros for `count_events`, one for each of `event_names`."""
        return array.array("Q", bytes(8 * max(1, len(self._events))))

    @property
    def event_names(self):
        """Name of every event class, in the order of `count_events`."""
        return [info.name for info in self._events]

    def count_events(self, buffer, Packet packet not None, counts, *, offset=None):
        """Walk over a packet, checking all of it, and add its events to `counts`.

        Parameters
        ----------
        buffer, packet, offset
            See `packet_records`.
        counts : array.array
            From `new_counts`. If the packet is damaged, the events before the damage are counted.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef unsigned long long[::1] totals = counts
        cdef const ctf_stream *s = self._stream_of(packet)
        cdef ctf_cursor c
        cdef int failed
        cdef uint32_t i
        cdef uint64_t *scratch = <uint64_t *>_calloc(self._plan.n_slots + len(self._events), sizeof(uint64_t))
        cdef uint64_t *found = scratch + self._plan.n_slots
        try:
            self._begin(&c, view, packet, offset, scratch)
            with nogil:
                failed = ctf_count_events(&self._plan, s, &c, found)
            for i in range(len(self._events)):
                totals[i] += found[i]
            if failed:
                self._fail_in(packet, &c)
        finally:
            PyMem_Free(scratch)

    def check_packet(self, buffer, Packet packet not None, *, offset=None):
        """Walk over a packet, checking all of it, and that no time goes back or leaves the packet's.

        Parameters
        ----------
        buffer, packet, offset
            See `packet_records`.

        Returns
        -------
        int
            How many events it has.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._stream_of(packet)
        cdef uint64_t last = 2**64 - 1 if packet.end_ticks is None else packet.end_ticks
        cdef ctf_cursor c
        cdef int64_t found
        cdef uint64_t *slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        try:
            self._begin(&c, view, packet, offset, slots)
            with nogil:
                found = ctf_check_events(&self._plan, s, &c, last)
            if found < 0:
                self._fail_in(packet, &c)
            return found
        finally:
            PyMem_Free(slots)

    def damage_in(self, buffer, Packet packet not None, *, offset=None):
        """Where a packet is damaged.

        Parameters
        ----------
        buffer, packet, offset
            See `packet_records`.

        Returns
        -------
        tuple of (int, int, int or None)
            How many events are before the damage; the byte of the packet after them; the
            time of the last one, in nanoseconds since the Unix epoch.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._stream_of(packet)
        cdef ctf_cursor c
        cdef ctf_record r
        cdef uint64_t pos, events = 0
        cdef uint64_t *slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        time = None
        try:
            self._begin(&c, view, packet, offset, slots)
            pos = c.pos
            while c.pos < c.end and not ctf_next_event(&self._plan, s, &c, &r):
                pos, events = c.pos, events + 1
                time = ctf_time_ns(&s.clock, r.ticks)
            _raise_pending()
            return events, pos // 8, time
        finally:
            PyMem_Free(slots)

    cdef int _fail_in(self, Packet packet, const ctf_cursor *c) except -1:
        """A walk has failed: because of the bytes, or because a signal handler has raised."""
        if PyErr_Occurred() != NULL:
            return -1
        raise self._packet_error(packet, f"{c.error.decode()} (at byte {c.pos // 8} of the packet)")

    cdef Record _record(self, const ctf_stream *s, const ctf_cursor *c, const ctf_record *r):
        cdef Record record = Record.__new__(Record)
        cdef uint64_t end = (c.pos + 7) & ~<uint64_t>7
        record._decoder = self
        record._event = <_EventInfo>self._events[r.event.index]
        record._begin, record._end = r.begin, c.pos
        record._origin = r.begin & ~<uint64_t>7
        if s.asks_outside:
            record._outside = PyBytes_FromStringAndSize(<const char *>c.slots, self._n_shared * sizeof(uint64_t))
        record._bytes = PyBytes_FromStringAndSize(<const char *>ctf_at(c, record._origin), (end - record._origin) >> 3)
        record._ticks = r.ticks
        record._time_ns = ctf_time_ns(&s.clock, r.ticks)
        return record

    cdef tuple _decode_record(self, Record record):
        cdef ctf_cursor c
        cdef uint64_t slots[STACK_SLOTS]
        self._within(record, &c, slots)
        try:
            contexts = self._part(record._event.stream_context, &c)
            contexts.update(self._part(record._event.context, &c))
            return contexts, self._part(record._event.fields, &c)
        except _Corrupt as error:
            raise TraceError(f"event {record.name!r} at time {record.timestamp}: {error}") from None
        finally:
            if c.slots != slots:
                PyMem_Free(c.slots)

    cdef dict _part(self, int32_t index, ctf_cursor *c):
        return self._build(index, c) if index >= 0 else {}

    cdef int _within(self, Record record, ctf_cursor *c, uint64_t *stack_slots) except -1:
        """A cursor at the contexts of a record."""
        memset(c, 0, sizeof(ctf_cursor))
        c.slots = stack_slots
        if self._plan.n_slots > STACK_SLOTS:
            c.slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        else:
            memset(c.slots, 0, self._plan.n_slots * sizeof(uint64_t))
        if record._outside is not None:
            memcpy(c.slots, PyBytes_AS_STRING(record._outside), len(record._outside))
        c.data = <const uint8_t *>PyBytes_AS_STRING(record._bytes)
        c.origin, c.pos, c.end = record._origin, record._begin, record._end
        ctf_set_budget(c, self._empty_values, 0, ctf_look_for_signals)
        return 0

    cdef object _payload(self, Record record):
        cdef _EventInfo event = record._event
        cdef ctf_cursor c
        cdef uint64_t slots[STACK_SLOTS]
        if event.data_node >= 0:
            return record.fields[self._infos[event.fields][-1]]
        self._within(record, &c, slots)
        try:
            for index in (event.stream_context, event.context):
                if index >= 0 and ctf_walk(&self._plan, index, &c):
                    _fail(&c)
            if event.fields >= 0 and ctf_align(&c, self._nodes[event.fields].align):
                _fail(&c)
            return record._bytes[(c.pos - record._origin) >> 3:]
        finally:
            if c.slots != slots:
                PyMem_Free(c.slots)

    # -- values --

    cdef object _build(self, int32_t index, ctf_cursor *c):
        """The value at the cursor, as Python has it; moves over it."""
        cdef const ctf_node *n = &self._nodes[index]
        cdef uint8_t style = self._styles[index]
        cdef int32_t option
        if style <= AS_FLOAT:
            return self._build_number(index, n, style, c)
        if ctf_align(c, n.align):
            _fail(c)
        if style == AS_DICT:
            return self._build_struct(index, n, c)
        if style == AS_OPTION:
            option = ctf_option(&self._plan, n, c)
            if option < 0 and n.kind == CTF_VARIANT:
                _fail(c)
            return self._build(option, c) if option >= 0 else None
        return self._build_elements(n, style, c)

    cdef object _build_number(self, int32_t index, const ctf_node *n, uint8_t style, ctf_cursor *c):
        cdef uint64_t value
        if ctf_number(c, n, &value):
            _fail(c)
        if n.slot >= 0:
            c.slots[n.slot] = value
        if style == AS_FLOAT:
            return _float_of(value, n.size)
        if style == AS_BOOL or style == AS_TRUTH:
            return value != 0
        cdef object number
        if n.is_signed:
            number = <int64_t>value
        else:
            number = value
        return _label_of(self._infos[index], number) if style == AS_ENUM else number

    cdef dict _build_struct(self, int32_t index, const ctf_node *n, ctf_cursor *c):
        cdef tuple names = <tuple>self._infos[index]
        cdef dict values = {}
        cdef uint32_t i
        if ctf_spend(c, n.count):
            _fail(c)
        for i in range(n.count):
            name = names[i]
            if name is not None:
                values[name] = self._build(self._members[n.first + i], c)
            elif ctf_walk(&self._plan, self._members[n.first + i], c):
                _fail(c)
        return values

    cdef object _build_elements(self, const ctf_node *n, uint8_t style, ctf_cursor *c):
        cdef uint64_t length
        cdef int64_t text_length
        cdef const char *start = <const char *>ctf_at(c, c.pos)
        if n.kind == CTF_STRING:
            text_length = ctf_string_length(n, c)
            if text_length < 0:
                raise _Corrupt("a string has no end")
            c.pos += 8 * (<uint64_t>text_length + ctf_unit(n.encoding))
            return _wide_text(start, text_length, n.encoding) if n.encoding else self._text(start, text_length)
        if ctf_length(&self._plan, n, c, &length):
            _fail(c)
        if style == AS_LIST:
            if ctf_spend(c, length):
                _fail(c)
            return [self._build(n.first, c) for _ in range(length)]
        c.pos += 8 * length
        if style == AS_BYTES:
            return PyBytes_FromStringAndSize(start, length)
        if n.encoding:
            text_length = ctf_wide_nul(<const uint8_t *>start, length, ctf_unit(n.encoding))
            return _wide_text(start, length if text_length < 0 else text_length, n.encoding)
        return self._text(start, _until_nul(start, length))

    cdef object _text(self, const char *start, uint64_t length):
        return _seen_text(self._seen, start, length)

    # -- columns --

    def event_indexes(self, name):
        """Which of `event_names` are `name`: several classes can have one name."""
        return [index for index, info in enumerate(self._events) if info.name == name]

    def dtype(self, index):
        """NumPy dtype of the rows of an event class, packed.

        ``timestamp`` (i8, nanoseconds since the Unix epoch) and ``cpu`` (i4, -1
        if unknown), then the contexts, then the fields. Integers, bools and
        floats are the type that holds them; an enumeration is its container; a
        fixed array is a subarray; structures of those are nested. What varies
        in size is an object: str, bytes, an array for a sequence of numbers, or
        a list. A name that occurs twice is qualified: ``field.cpu``,
        ``context.x``, ``event_context.x``.

        Parameters
        ----------
        index : int
            Into `event_names`.
        """
        columns = (<_EventInfo>self._events[index]).columns
        columns.check(self.limits.row_size)
        return columns.dtype()

    def least_size(self, index):
        """Bytes of an event of one of `event_names` in a packet, if this varies only by its header; else None."""
        cdef const ctf_stream *s
        cdef uint32_t i, j
        for i in range(self._n_streams):
            s = &self._streams[i]
            for j in range(s.n_events):
                if s.events[j].index == index and s.events[j].fixed >= 0:
                    return (s.events[j].fixed + (48 if s.header_kind == CTF_HEADER_LARGE else 32)) // 8
        return None

    def to_numpy(self, buffer, name=None, cpu=None):
        """The events of packets as structured arrays.

        Parameters
        ----------
        buffer : bytes-like
            One packet, or several that follow one another.
        name : str, optional
            An event; by default all of them.
        cpu : int, optional
            See `records`.

        Returns
        -------
        numpy.ndarray or dict of str to numpy.ndarray
            One dimension, in the order of the buffer; see `dtype`. With several
            event classes of one name: those of the first.

        Raises
        ------
        KeyError
            There is no such event.
        TraceError
            A packet is damaged.
        """
        names = self.event_names
        if name is not None and name not in names:
            raise KeyError(name)
        wanted = {names.index(one) for one in (set(names) if name is None else {name})}
        tables = [self.table(index) for index in wanted]
        for packet in self.packets(buffer):
            self.fill(buffer, packet, tables, cpu=cpu)
        rows = {names[(<Table>table).index]: plain_rows(table.take()) for table in tables}
        return rows if name is None else rows[name]

    def members_of(self, int32_t node):
        """The nodes of a structure's members."""
        cdef const ctf_node *n = &self._nodes[node]
        return [self._members[n.first + i] for i in range(n.count)]

    def table(self, index, room=None):
        """An empty `Table` for the events of one of `event_names`.

        Parameters
        ----------
        index : int
        room : numpy.ndarray, optional
            Rows of `dtype` without objects, which are filled: there will be no more of them. Not for events
            whose values vary in size.
        """
        return Table.__new__(Table, self, index, room)

    def fill(self, buffer, Packet packet not None, tables, *, offset=None, cpu=None):
        """Walk over a packet, checking all of it, and add its events to their tables.

        Parameters
        ----------
        buffer, packet, offset, cpu
            See `packet_records`.
        tables : iterable of Table
            Of this decoder, one for each event class that is wanted. If the packet is
            damaged, they get the events before the damage.

        Returns
        -------
        int
            How many rows were added.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._stream_of(packet)
        cdef ctf_cursor c
        cdef Table table
        cdef uint64_t added = 0
        cdef list by_index = [None] * len(self._events)
        cdef ctf_rows *rows = <ctf_rows *>_calloc(len(self._events), sizeof(ctf_rows))
        cdef uint64_t *slots = NULL
        row_cpu = cpu if packet.cpu is None else packet.cpu
        try:
            slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
            self._begin(&c, view, packet, offset, slots)
            for table in tables:
                by_index[table.index] = table
                table.open(&rows[table.index])
            try:
                self._fill(s, &c, packet, by_index, rows, -1 if row_cpu is None or row_cpu >= 2**31 else row_cpu)
            finally:
                for table in tables:
                    added += table.close(&rows[table.index])
        finally:
            PyMem_Free(slots)
            PyMem_Free(rows)
        return added

    def rows_in_place(self, buffer, Packet packet not None, index):
        """The contexts and fields of a packet's events, where they are.

        Parameters
        ----------
        buffer : bytes-like
            Has the packet at its beginning.
        packet : Packet
        index : int
            Into `event_names`.

        Returns
        -------
        numpy.ndarray or None
            Refers to `buffer`; without ``timestamp`` and ``cpu``. None if the packet has other
            events, or values that NumPy could not read there.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._stream_of(packet)
        cdef ctf_cursor c
        cdef uint64_t first = 0, stride = 0
        cdef uint32_t event = index
        cdef int64_t count
        dtype = (<_EventInfo>self._events[index]).columns.dtype_in_place()
        if dtype is None:
            return None
        cdef uint64_t *slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        try:
            self._begin(&c, view, packet, 0, slots)
            with nogil:
                count = ctf_regular_events(&self._plan, s, &c, event, &first, &stride)
            if count < 0:
                self._fail_in(packet, &c)
        finally:
            PyMem_Free(slots)
        if not count or first % 8 or stride % 8:
            return None
        # It is frombuffer() that holds on to the buffer for as long as there is an array.
        held = _numpy().frombuffer(buffer, "u1")
        return _numpy().ndarray((count,), dtype, held, first // 8, (stride // 8 or dtype.itemsize,))

    def event_spots(self, buffer, Packet packet not None, *, offset=None):
        """Where each event of a packet is.

        Returns
        -------
        numpy.ndarray
            Structured: ``ticks``, ``time_ns``; ``start`` and ``end``, in bits from the packet's beginning, with
            the event's header; ``index`` into `event_names`.

        Raises
        ------
        TraceError
            The packet is damaged.
        """
        cdef const uint8_t[::1] view = buffer
        cdef const ctf_stream *s = self._stream_of(packet)
        cdef ctf_cursor c
        cdef uint64_t room, align = self.header_align(packet)
        cdef int64_t found
        cdef uint8_t[::1] bytes_
        counts = self.new_counts()
        self.count_events(buffer, packet, counts, offset=offset)
        room = sum(counts)
        words = [("ticks", "u8"), ("start", "u8"), ("end", "u8"), ("time_ns", "i8"), ("index", "u4"), ("zero", "u4")]
        spots = _numpy().zeros(room, words)
        if not room:
            return spots
        bytes_ = spots.view("u1")
        cdef uint64_t *slots = <uint64_t *>_calloc(self._plan.n_slots, sizeof(uint64_t))
        try:
            self._begin(&c, view, packet, offset, slots)
            with nogil:
                found = ctf_list_events(&self._plan, s, &c, align, <ctf_spot *>&bytes_[0], room)
            if found < 0:
                self._fail_in(packet, &c)
            return spots[:found]
        finally:
            PyMem_Free(slots)

    def header_align(self, Packet packet not None):
        """Alignment of the headers of a packet's events, in bits."""
        cdef const ctf_stream *s = self._stream_of(packet)
        return self._nodes[s.event_header].align if s.event_header >= 0 else 1

    def event_align(self, index):
        """The largest alignment within an event of one of `event_names`, in bits."""
        cdef _EventInfo info = self._events[index]
        return max([1] + [self._largest_align(node) for node in (info.stream_context, info.context, info.fields) if node >= 0])

    def _largest_align(self, int32_t node):
        cdef const ctf_node *n = &self._nodes[node]
        cdef list within = []
        if n.kind == CTF_STRUCT:
            within = self.members_of(node)
        elif n.kind in (CTF_VARIANT, CTF_OPTIONAL):
            within = [self._ranges[n.first + i].node for i in range(n.count)]
        elif n.kind in (CTF_ARRAY, CTF_SEQUENCE):
            within = [n.first]
        return max([n.align] + [self._largest_align(one) for one in within])

    cdef _fill(self, const ctf_stream *s, ctf_cursor *c, Packet packet, list by_index, ctf_rows *rows, int32_t cpu):
        """Without the GIL, unless something becomes an object: to take it again for each is what costs."""
        cdef ctf_record r
        cdef Table table
        cdef int result
        cdef int64_t time_ns
        cdef bint has_objects = any(table is not None and (<Table>table).has_objects for table in by_index)
        while True:
            if has_objects:
                result = ctf_fill_rows(&self._plan, s, c, &r, rows, cpu)
            else:
                with nogil:
                    result = ctf_fill_rows(&self._plan, s, c, &r, rows, cpu)
            if result == 0:
                return
            if result < 0:
                self._fail_in(packet, c)
            table, time_ns = by_index[r.event.index], ctf_time_ns(&s.clock, r.ticks)
            if not table.has_objects:
                table.make_room(&rows[table.index], ctf_heap_need(c, &r))
                if table.copies is not None:
                    ctf_add_row(&rows[table.index], ctf_at(c, r.begin), time_ns, cpu)
                elif ctf_add_event(&self._plan, &rows[table.index], c, &r, time_ns, cpu):
                    self._fail_in(packet, c)
            else:
                try:
                    self._add_row(table, c, &r, time_ns, cpu)
                except BaseException as error:
                    table.drop_row()
                    if isinstance(error, _Corrupt):
                        raise self._packet_error(packet, str(error)) from None
                    raise

    cdef _add_row(self, Table table, ctf_cursor *after, const ctf_record *r, int64_t time_ns, int32_t cpu):
        """Of an event with values that become objects."""
        cdef ctf_cursor at = after[0]
        cdef ctf_cursor *c = &at
        cdef const ctf_cell *cell
        cdef uint8_t *to = table.next_row()
        cdef Py_ssize_t i, objects = 0
        cdef int failed
        c.pos = r.begin
        memcpy(to, &time_ns, 8)
        memcpy(to + 8, &cpu, 4)
        to += CTF_ROW_PREFIX
        for i in range(table.n_cells):
            cell = &table.cells[i]
            failed = 0
            if cell.step == CTF_STEP_STORE:
                to = ctf_store(&self._plan, cell.node, c, to)
                failed = to == NULL
            elif cell.step == CTF_STEP_OBJECT:
                (<list>table.lists[objects]).append(self._build_cell(cell.node, table.elements[objects], c))
                objects += 1
            elif cell.step == CTF_STEP_SKIP:
                failed = ctf_walk(&self._plan, cell.node, c)
            else:
                failed = ctf_align(c, self._nodes[cell.node].align)
            if failed:
                _fail(c)
        ctf_take_budget(after, c)

    cdef object _build_cell(self, int32_t member, elements, ctf_cursor *c):
        cdef const ctf_node *n = &self._nodes[member]
        cdef uint64_t length, size
        if elements is None:
            return self._build(member, c)
        if ctf_align(c, n.align) or ctf_length(&self._plan, n, c, &length):
            _fail(c)
        size = length * (self._nodes[n.first].size >> 3)
        data = PyBytes_FromStringAndSize(<const char *>ctf_at(c, c.pos), size)
        c.pos += 8 * size
        return _numbers(data, elements)


class _Corrupt(TraceError):
    """Why bytes cannot be decoded; another TraceError says which bytes, where that is known."""


cdef int _fail(const ctf_cursor *c) except -1:
    """As Decoder._fail_in, where the packet is not known."""
    if PyErr_Occurred() != NULL:
        return -1
    raise _Corrupt(c.error.decode())


@cython.final
cdef class _Records:
    """Iterator over the records of one packet, which has been checked."""

    cdef Decoder _decoder
    cdef Packet _packet
    cdef const uint8_t[::1] _view
    cdef ctf_cursor _cursor
    cdef uint64_t *_slots
    cdef object _cpu
    cdef bint _in_ns

    def __dealloc__(self):
        PyMem_Free(self._slots)

    def __iter__(self):
        return self

    def __next__(self):
        cdef Decoder decoder = self._decoder
        cdef const ctf_stream *s = decoder._stream_of(self._packet)
        cdef ctf_record r
        cdef Record record
        with cython.critical_section(self):
            if self._cursor.pos >= self._cursor.end:
                raise StopIteration
            if ctf_next_event(&decoder._plan, s, &self._cursor, &r):
                decoder._fail_in(self._packet, &self._cursor)
            record = decoder._record(s, &self._cursor, &r)
        record.cpu = self._cpu
        record._in_ns = self._in_ns
        return record


def merged(iterators):
    """Records of several iterators by time, as an iterator; of equal times, those of the first iterator first."""
    heap = []
    for index, iterator in enumerate(iterators):
        for record in iterator:
            heap.append(((<Record>record)._time_ns, index, record, iterator))
            break
    heapq.heapify(heap)
    while heap:
        _, index, record, iterator = heap[0]
        yield record
        record = next(iterator, None)
        if record is None:
            heapq.heappop(heap)
        else:
            heapq.heapreplace(heap, ((<Record>record)._time_ns, index, record, iterator))


def merged_rows(lanes):
    """Rows of several sources by time.

    Parameters
    ----------
    lanes : list of list of numpy.ndarray, or of Rows
        Each lane has rows in order of time, in pieces, as from
        `Decoder.tables`. There is at least one row; all have one dtype.

    Returns
    -------
    numpy.ndarray or Rows
        Of equal times, those of the first lane first.
    """
    lanes = [lane for lane in ([rows for rows in lane if len(rows)] for lane in lanes) if lane]
    pieces = [rows for lane in lanes for rows in lane]
    if len(pieces) == 1:
        return pieces[0]
    if isinstance(pieces[0], Rows):
        return Rows.joined(pieces, merged_rows([[(<Rows>rows).cells for rows in lane] for lane in lanes]))
    if pieces[0].dtype.hasobject:
        rows = _numpy().concatenate(pieces)
        return rows if len(lanes) == 1 else rows[rows["timestamp"].argsort(kind="stable")]
    rows = _numpy().empty(sum(map(len, pieces)), pieces[0].dtype)
    if len(lanes) == 1:
        # As bytes: structures would be copied field by field.
        _numpy().concatenate([piece.view("u1") for piece in pieces], out=rows.view("u1"))
    else:
        _merge_plain_rows(lanes, rows)
    return rows


cdef _merge_plain_rows(list lanes, rows):
    cdef uint8_t[::1] target = rows.view("u1")
    cdef const uint8_t[::1] view
    cdef uint32_t n = len(lanes), row_size = rows.itemsize, i
    cdef ctf_lane *table = NULL
    cdef ctf_lane **heap = NULL
    cdef ctf_piece *piece = NULL
    # Each lane's pieces end with an empty one.
    cdef ctf_piece *pieces = <ctf_piece *>_calloc(sum([len(lane) + 1 for lane in lanes]), sizeof(ctf_piece))
    try:
        table = <ctf_lane *>_calloc(n, sizeof(ctf_lane))
        heap = <ctf_lane **>_calloc(n, sizeof(ctf_lane *))
        piece = pieces
        for i in range(n):
            heap[i] = &table[i]
            table[i].piece = piece
            for part in lanes[i]:
                view = part.view("u1")
                piece.begin, piece.end = &view[0], &view[0] + view.shape[0]
                piece += 1
            piece += 1
            table[i].next = table[i].piece.begin
            memcpy(&table[i].time, table[i].next, 8)
        with nogil:
            ctf_merge_rows(heap, n, row_size, &target[0])
    finally:
        PyMem_Free(pieces)
        PyMem_Free(table)
        PyMem_Free(heap)


include "decode/columns.pxi"
include "decode/text.pxi"


# ---- small things ----


cdef object _role(const ctf_cursor *c, uint8_t role):
    """The value of a role, or None if it was not found."""
    return c.roles[role] if c.roles[0] >> role & 1 else None


cdef int _raise_pending() except -1:
    """What a signal handler has raised meanwhile."""
    return -1 if PyErr_Occurred() != NULL else 0


cdef void *_calloc(size_t count, size_t size) except NULL:
    cdef void *memory = PyMem_Calloc(count or 1, size)
    if memory == NULL:
        raise MemoryError
    return memory


cdef object _float_of(uint64_t bits, uint32_t size):
    cdef uint32_t low
    cdef float narrow
    cdef double wide
    if size <= 32:
        low = <uint32_t>bits
        memcpy(&narrow, &low, 4)
        return <double>narrow
    memcpy(&wide, &bits, 8)
    return wide


cdef bint _is_text(object seen, const char *start, uint64_t length) noexcept:
    """Is `seen` that text? Said of ASCII alone."""
    return (seen is not None and PyUnicode_IS_COMPACT_ASCII(seen) and
            <uint64_t>PyUnicode_GET_LENGTH(seen) == length and memcmp(PyUnicode_DATA(seen), start, length) == 0)


cdef object _seen_text(list texts, const char *start, uint64_t length):
    """As _text; one object for equal texts, mostly: `texts` has those of late."""
    cdef uint32_t at
    if not length or length > TEXT_SEEN_MAX:
        return _text(start, length)
    at = ctf_hash(start, length) % TEXTS_SEEN
    seen = texts[at]
    if not _is_text(seen, start, length):
        seen = texts[at] = _text(start, length)
    return seen


cdef object _text(const char *start, uint64_t length):
    """Text in modified UTF-8: C0 80 is U+0000. What is no UTF-8 becomes lone surrogates, never an error."""
    # The byte C0 occurs in nothing else that is valid.
    if memchr(start, 0xC0, length) == NULL:
        return PyUnicode_DecodeUTF8(start, length, "surrogateescape")
    return start[:length].replace(b"\xc0\x80", b"\0").decode("utf-8", "surrogateescape")


cdef object _wide_text(const char *start, uint64_t length, uint8_t encoding):
    """Text in UTF-16 or UTF-32. What is neither becomes U+FFFD."""
    return start[:length].decode(_CODECS[encoding], "replace")


cdef uint64_t _until_nul(const char *start, uint64_t length):
    cdef const char *nul = <const char *>memchr(start, 0, length)
    return nul - start if nul != NULL else length


include "decode/kernel.pxi"
include "decode/pairs.pxi"
include "decode/draw.pxi"
include "decode/levels.pxi"
