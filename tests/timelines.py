"""Traces with spans, calls and logs, made record by record; what time-line writers are told of them.

trace = timelines.written(tmp_path, (1, "db", [7, 0, "orders"]), (5, "span_end", [7, ""]))
timelines.told(trace)       [("begin", 1, "spans", "db", {...}), ("end", 5, "spans", "db", {})]
"""

import ctf_writer

from ringbuf.ctf.metadata import ChannelLayout, ClockInfo
from ringbuf.ctf.schema import EventSchema
from ringbuf.trace.export.timeline import Timeline
from ringbuf.trace.trace import open_trace

ORIGIN = 1_700_000_000 * 10**9  # of tick 0; a tick is a nanosecond
PID, TID = 100, 101

SCHEMAS = {
    "db": "span_id:u64,parent_id:u64,table:str",
    "span_end": "span_id:u64,error:str",
    "function_begin": "code:u32",
    "function_end": "code:u32",
    "function_code": "code:u32,name:str,file:str,line:u32",
    "log": "level:u8{INFO=20,ERROR=40},logger:str,message:str,file:str,line:u32,function:str,exception:str",
    "audit": "name:str,args:str",
    "tick": "n:u64,x:f64,data:bytes,text:str,many:u16[],on:bool,low:i8",
    "web": "span_id:u64,parent_id:u64",
}
#: Those of traces that tell of process images, greenlets and tasks.
OF_IMAGES = SCHEMAS | {
    "function_code": "code:u32,name:str,file:str,line:u32,image:u32",
    "strand": "strand:u64,kind:str,name:str",
    "strand_switch": "strand:u64,resumed:u32",
    "process_image": "image:u32,parent:u32,inherited:u32",
}
TICK = [1, 0.5, b"\x00\xff", "t", [1, 2], True, -1]


def written(
    directory, *records, contexts="vpid:i32,vtid:i32", env=None, per_cpu=True, discarded=(0, 0), schemas=SCHEMAS
):
    """A trace of records (ticks, event, values, optional tid or tuple of all contexts).

    Its packets are two; the first is empty if nothing was discarded before the second.
    """
    events = [EventSchema(index, name, fields=text) for index, (name, text) in enumerate(schemas.items())]
    more = {"contexts": EventSchema(0, "x", fields=contexts).fields, "env": env or {}}
    channel = ChannelLayout(
        bytes(16), "compact", per_cpu, ClockInfo(10**9, *divmod(ORIGIN, 10**9)), events=events, **more
    )
    first = ctf_writer.Packet(channel, seq=0, discarded=discarded[0])
    packet = ctf_writer.Packet(channel, seq=1, discarded=discarded[1])
    ids = {event.name: event.id for event in events}
    for ticks, name, values, *who in records:
        who = who[0] if who else TID
        who = who if isinstance(who, tuple) else (PID, who) if contexts else ()
        packet.event(ids[name], ticks, values, common=who)
    return open_trace(ctf_writer.write(directory / "trace", channel, s0=[first.bytes(), packet.bytes()]))


class Notes:
    """A writer that notes what it is told."""

    def __init__(self):
        self.tracks, self.told, self.lines, self.flows = [], [], [], []

    def track(self, track):
        self.tracks.append((track.id, track.kind, track.name, track.pid, track.tid, track.parent and track.parent.id))

    def begin(self, time, track, name, category, args, function):
        self._note("begin", time, track, name, args)

    def end(self, time, track, name, category, args):
        self._note("end", time, track, name, args)

    def instant(self, time, track, name, category, args):
        self._note("instant", time, track, name, args)

    def flow(self, outgoing, incoming):
        self.flows.append((outgoing, incoming))

    def value(self, time, track, value):
        self._note("value", time, track, track.name, {"value": value, "unit": track.unit})

    def _note(self, phase, time, track, name, args):
        self.told.append((phase, time - ORIGIN, f"{track.kind} {track.tid}", name, args))
        self.lines.append(track.id)

    def close(self):
        pass


def notes(trace, **wanted):
    writer = Notes()
    Timeline(trace, writer).write(**wanted)
    return writer


def told(trace, **wanted):
    return notes(trace, **wanted).told
