"""Tracer: typed events over a channel."""

from __future__ import annotations

import os
import sys

from .. import inject
from .._core import Channel, ContextBlock, Counter, Event, Gauge, Histogram, Span, SpanType
from ..ctf import schema as _schema
from ..live import sharing as _sharing
from . import contexts as _contexts
from . import recording as _recording

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..stats import Stats
    from ..watch.watch import Watch
    from .recorder import Recorder

__all__ = ["Tracer"]

_LEAST_HEADER = 4  # bytes of a record's own, in the compact format


class Tracer:
    """Records typed events into a channel of its own.

    Parameters
    ----------
    name : str
        Of the channel.
    mode : {"overwrite", "discard"}
        ``"overwrite"`` is the flight recorder: the newest records are kept.
    path : str or os.PathLike, optional
        Keep the buffers in this new file. By default in one of the directory that the environment
        variable ``RINGBUF_DIR`` names, if it is set; else in anonymous memory.
    keep : bool, optional
        Leave the file when the process ends well. By default a file in ``RINGBUF_DIR`` is removed
        then, unless ``RINGBUF_KEEP`` is 1, and one that `path` names is left. A crash leaves it.
    contexts : iterable
        Fields that every record carries: names among ``"vpid"``, ``"vtid"``,
        ``"procname"``, ``"thread_name"``, ``"task_name"``, or tuples
        ``(name, type, callable)`` whose callable gives the value, or a `contextvars.ContextVar` in its
        place: its value where the record is made, its default, 0 or empty where it has none.
    **options
        As for `Channel`.

    A Tracer pickles into spawned and pooled workers, and works on in forked ones.
    Thread safety: any thread.

    >>> import ringbuf
    >>> tracer = ringbuf.Tracer("shop")
    >>> checkout = tracer.event("checkout", order="u64", path="str", ms="f64")
    >>> checkout(17, "/pay", 3.25)
    True
    """

    def __init__(
        self, name: str, *, mode: str = "overwrite", path=None, contexts=("vpid", "vtid"), keep=None, **options
    ) -> None:
        self._contexts = _contexts.resolve(contexts)
        self._events: dict[tuple, Event] = {}
        self._span_types: dict[tuple, SpanType] = {}
        options |= {"mode": mode, "contexts": _contexts.text(self._contexts)}
        if path is None and os.environ.get("RINGBUF_DIR"):
            from .automatic import automatic_channel

            self.channel = automatic_channel(name, keep, options)
        else:
            self.channel = Channel(name, path=path, **options)
            if path is not None and keep is False:
                from .automatic import remove_at_exit

                remove_at_exit(self.channel)
        self._watch_as_environment_says()

    def _watch_as_environment_says(self) -> None:
        # What a flight recorder of the process has too, that watches.
        if os.environ.get("RINGBUF_WATCH") and self.channel.mode == "overwrite" and inject.here is None:
            from ..watch.watch import from_environment

            from_environment(self)

    @classmethod
    def open(cls, path, name=None, *, mode: str = "overwrite", contexts=("vpid", "vtid"), **options) -> Tracer:
        """A tracer over the channel in a file, which is made if there is none; whoever comes first.

        Parameters
        ----------
        path : str or os.PathLike
        name : str, optional
            Of the channel, if it is made; by default the file's name.
        mode, contexts, **options
            As for `Tracer`. A channel that is there keeps what it was made with.

        Raises as `Channel.open`.

        >>> tracer = ringbuf.Tracer.open("/dev/shm/shop.ringbuf")
        """
        wanted = _contexts.resolve(contexts)
        channel = Channel.open(path, name, mode=mode, contexts=_contexts.text(wanted), **options)
        given = [(one.field.name, one.enum_class or one.field.type, one.provider) for one in wanted if one.provider]
        self = cls.attach(channel, contexts=[one for one in given if one[0] not in _contexts.BUILTIN])
        self._watch_as_environment_says()
        return self

    @classmethod
    def attach(cls, target, *, contexts=(), **options) -> Tracer:
        """A tracer that records into an existing channel.

        Parameters
        ----------
        target
            A `Channel`, or as for `ringbuf.attach`.
        contexts : iterable of (name, type, callable)
            Providers of the channel's own contexts, where it has any that are not built in;
            one that is not given is recorded as 0 or empty.
        """
        channel = target if isinstance(target, Channel) else _sharing.attach(target, **options)
        given = {context.field.name: context for context in _contexts.resolve(contexts)}
        self = cls.__new__(cls)
        self.channel = channel
        self._events = {}
        self._span_types = {}
        self._contexts = tuple(_contexts.provided(field, given) for field in _schema.parse(channel.contexts))
        return self

    def __reduce__(self):
        extra = [
            (context.field.name, context.enum_class or context.field.type, context.provider)
            for context in self._contexts
            if context.field.name not in _contexts.BUILTIN and context.provider is not None
        ]
        return _restore, (type(self), self.channel, extra)

    @property
    def name(self) -> str:
        """Of the channel."""
        return self.channel.name

    def event(self, name: str, /, *, _contexts: tuple = (), **fields) -> Event:
        """Declare an event; the same declaration gives the same event, in every process.

        Parameters
        ----------
        name : str
        **fields
            Name and type of each: ``"u8"`` to ``"u64"``, ``"i8"`` to ``"i64"``, ``"f32"``,
            ``"f64"``, ``"bool"``, ``"str"``, ``"bytes"``, ``"u32[]"`` (any length),
            ``"f64[3]"`` (exactly three), or an `enum.Enum` class with int values.
        _contexts : iterable
            Contexts of this event alone, as for the Tracer, but without bytes and arrays of any length.

        Returns
        -------
        Event
            Call it with the values, in this order or by name.

        Raises
        ------
        ValueError, TypeError
            A name or type that is none; an event too large for a sub-buffer.
        OSError
            ENOSPC: the channel's schema area is full. EBUSY: see `Channel.declare_event`.
        """
        declared = _schema.from_mapping(fields)
        enum_classes = [kind if isinstance(kind, type) else None for kind in fields.values()]
        own = resolve_contexts(_contexts)
        key = (name, declared, own, tuple(enum_classes))
        known = self._events.get(key)
        if known is None:
            # Of two threads that declare it at the same time, both get the one that came first.
            known = self._events.setdefault(key, self._declare(name, declared, enum_classes, own))
        return known

    def _declare(self, name, declared, enum_classes, own) -> Event:
        for field in declared:
            if field.align != 1:
                raise ValueError(f"field {field.name!r}: events are packed, no field can be aligned")
        texts = (_contexts.text(own), _schema.to_text(declared))
        _schema.EventSchema(0, name, *texts)  # checks the name before it is stored for good
        contexts = self._contexts + own
        _check_room(self.channel, name, declared, contexts)
        event_id = self.channel.declare_event(name, *texts)
        copy, copied = _recording.copy_of(self.channel, name, declared, enum_classes, contexts)
        block = _context_block(contexts, bool(own), copied)
        return Event(self.channel, event_id, name, *texts, _schema.parts(declared), enum_classes, block, copy)

    def span(self, name: str, /, **fields) -> Span:
        """A context manager that records when it begins, with these fields, and when it ends.

        Parameters
        ----------
        name : str
            One of few: names are stored for good. What varies is a field.
        **fields
            Values: int, float, bool, str, bytes, members of enumerations. The first use of a
            name with these fields decides on their types: ``i64`` for an int, ``f64`` for a float.

        Raises
        ------
        TypeError
            No type is known for a value; on entry, it is of another type than it was first.

        Spans know the span around them, also across the tasks of asyncio.

        >>> with tracer.span("db", table="orders", rows=17): ...
        """
        kind = self._span_types.get((name, *fields))
        if kind is None:
            kind = self._first_use(name, fields)
        return kind._of(fields)

    def _first_use(self, name: str, fields: dict) -> SpanType:
        """The same spans for every order of the fields."""
        key = (name, *sorted(fields))
        kind = self._span_types.get(key)
        if kind is None:
            from . import spans

            types = {field: spans.type_of(field, value) for field, value in fields.items()}
            kind = self._span_types.setdefault(key, self.span_type(name, **types))
        self._span_types[(name, *fields)] = kind
        return kind

    def span_type(self, name: str, /, **fields) -> SpanType:
        """Declare spans with the types of their fields, as for `event`; faster to use than `span`.

        >>> query = tracer.span_type("query", table="str", rows="u32")
        >>> with query("orders", 17): ...
        """
        begin = self.event(name, span_id="u64", parent_id="u64", **fields)
        return SpanType(begin, self.event("span_end", span_id="u64", error="str"))

    def follow(self, link) -> bool:
        """Say that the span we are in follows from another one, which is not around it.

        Parameters
        ----------
        link : int, str or bytes
            What `Span.link` gave there, or its digits.

        Returns
        -------
        bool
            Recorded. Not if there is no span here, or it is no link: a header may hold anything.

        >>> with tracer.span("put") as span:
        ...     queue.put((span.link(), job))
        >>> link, job = queue.get()
        >>> with tracer.span("work"):
        ...     tracer.follow(link)
        """
        from . import links

        return links.follow(self, link)

    def linked(self, function, *, name: str | None = None):
        """A function for a pool: each call of it is a span that follows from the one we are in now.

        Parameters
        ----------
        function : callable
        name : str, optional
            Of the span; by default the function's, qualified with its module.

        >>> executor.submit(tracer.linked(pay), order)
        """
        from .._core import current_span
        from . import links

        if name is None:
            name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__name__)}"
        return links.Linked(self, function, name, current_span())

    def trace(self, function=None, /, *, name: str | None = None):
        """Decorate a function, so that each run of it is a span: ``@tracer.trace``.

        For functions, coroutine functions, generators and asynchronous generators, and methods;
        above or below ``@classmethod`` and ``@staticmethod``. A plain function becomes an object like that of
        `functools.lru_cache`, without a frame of its own. A generator's span is from its first
        value to its end; what happens between two values is not inside it.

        Parameters
        ----------
        name : str, optional
            Of the span; by default the function's, qualified with its module.
        """
        from .spans import traced

        if function is None:
            return lambda function: traced(function, self, name)
        return traced(function, self, name)

    # ---- counting, without records ----

    def counter(self, name: str, unit: str = "", *, help: str = "", real: bool = False, **labels) -> Counter:
        """Declare a counter, which is counted in place: no record, no lock, and nothing can be lost.

        Parameters
        ----------
        name : str
            An ASCII identifier; the same declaration gives the same counter, in every process.
        unit, help : str
            What it counts, such as ``"bytes"``; what it is, for people.
        real : bool
            It adds floats, not whole numbers.
        **labels
            Name and type of each, as fields of `event`: str, bool, integers, `enum.Enum` classes.

        Returns
        -------
        Counter
            Call it to count; if it has labels, call ``labels(...)`` of it first.

        Raises
        ------
        ValueError, TypeError
            A name or type that is none; there is another metric of this name.
        OSError
            ENOSPC: the channel's metrics area is full. EBUSY: see `Channel.declare_event`.

        Values are the channel's, over all its processes, and live as long as it does.

        >>> requests = tracer.counter("requests", method="str", status="u16")
        >>> requests.labels("GET", 200)()
        """
        from ..metrics import declare

        return declare.counter(self.channel, name, unit, help, real, labels)

    def gauge(self, name: str, unit: str = "", *, help: str = "", per: str = "channel", **labels) -> Gauge:
        """Declare a gauge: a value that is set, or goes up and down. As `counter`.

        Parameters
        ----------
        per : {"channel", "process"}
            Whether there is one value, or one for each process, which goes when its process does, however it ends.

        Returns
        -------
        Gauge
            Call it to set it; ``add(n)`` changes it.

        >>> tracer.gauge("queue", "items")(17)
        """
        from ..metrics import declare

        return declare.gauge(self.channel, name, unit, help, per, labels)

    def histogram(self, name: str, unit: str = "", *, help: str = "", buckets=None, **labels) -> Histogram:
        """Declare a histogram, which counts values by size. As `counter`.

        Parameters
        ----------
        buckets : iterable of float, optional
            The largest value of each bucket, ascending; there is one more, without a bound. By default 1, 2 and 5 of
            each power of ten that the unit makes likely: from a microsecond to 100 s where it is ``"s"``.

        Returns
        -------
        Histogram
            Call it with each value; ``with histogram.time():`` counts how long a block takes.

        >>> latency = tracer.histogram("latency", "s", route="str")
        >>> with latency.labels("/pay").time(): ...
        """
        from ..metrics import declare

        return declare.histogram(self.channel, name, unit, help, buckets, labels)

    def stats(self) -> Stats:
        """Counters of the channel (`Stats`)."""
        return self.channel.stats()

    def record(self, directory, **options) -> Recorder:
        """Stream packets to a CTF trace directory from now on; a context manager.

        See `ringbuf.Recorder`.
        """
        from .recorder import Recorder

        return Recorder(self.channel, directory, **options)

    def snapshot(self, directory, *, last: float | None = None, format: str = "ctf") -> dict:
        """Write what the buffers hold now to a new CTF trace directory; nothing is consumed.

        See `ringbuf.snapshot`.
        """
        from .recorder import snapshot

        return snapshot(self.channel, directory, last=last, format=format)

    def watch(
        self, directory, on="exception", *, last: float | None = 10.0, at_most: str = "1/min", keep: int | None = 20,
        max_size: int | str | None = None,
    ) -> Watch:  # fmt: skip
        """Take a snapshot whenever something happens, from now until `Watch.close`; a context manager.

        Parameters
        ----------
        directory : str or os.PathLike
            Of the snapshots, made if missing: each a trace, and beside it a text that says why, with the stacks of
            all threads and of asyncio's tasks.
        on : str or iterable of str
            What happens: ``"exception"``, one that nobody caught, in the program, a thread, a task or a destructor;
            ``"signal=USR2"``; ``"over=0.3"``, a span that takes longer, in seconds, ``"over=db:50ms"`` of this name or
            pattern, ``"over=p99*3"`` longer than three times what 99 of 100 before took; ``"log=ERROR"``, a log record
            of this level or a higher one; ``"loop=1"``, an event loop of asyncio that comes to nothing else for so
            long; ``"main=5"``, a main thread that runs no Python for so long; ``"heartbeat=10"``, `Watch.beat` was not
            called for so long; ``"loss"``, records were lost; ``"memory=2G"``, more is resident. Several in one
            text, with commas, or in a list.
        last : float or None
            Leave out packets that ended more than so many seconds ago; None: whatever the buffers hold.
        at_most : str
            So many, such as ``"1/min"``, ``"3/10min"``; of all processes that use the directory. What is more is
            skipped, and counted.
        keep : int or None
            The newest so many stay in the directory.
        max_size : int or str or None
            So many bytes, such as ``"2G"``, that all snapshots there may take.

        Raises
        ------
        ValueError
            An unknown trigger, or one whose value is none; the channel is in discard mode.
        OSError
            Nothing can be written in the directory, or it is somebody else's.

        The snapshot is of the whole channel: of all its processes at the same instant. It is written by a thread that
        lives as long as that takes. Thread safety: any thread; with ``signal=``, the main thread.

        >>> tracer.watch("incidents", on=["exception", "signal=USR2", "over=0.5"])
        """
        from ..watch.watch import Watch

        return Watch(self, directory, on, last=last, at_most=at_most, keep=keep, max_size=max_size)

    def close(self) -> None:
        """Stop using the channel in this process. Twice is harmless."""
        watching = sys.modules.get("ringbuf.watch.watch")
        if watching is not None:
            watching.close_those_of(self.channel)
        self.channel.close()

    def __enter__(self) -> Tracer:
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ringbuf.Tracer of {self.channel!r}>"


def _context_block(contexts, has_own: bool, copied) -> ContextBlock | None:
    """Contexts of an event, and of its copy, as far as the core's block for the thread does not say it all."""
    is_by_core = not has_own and all(context.per_thread for context in contexts)
    if is_by_core and copied is None:
        return None
    every = list(contexts)
    every += [context for context in copied or () if context not in every]
    return ContextBlock(
        _schema.parts(context.field for context in every),
        [context.provider for context in every],
        [context.enum_class for context in every],
        None if is_by_core else tuple(range(len(contexts))),
        None if copied is None else tuple(every.index(context) for context in copied),
    )


def _check_room(channel: Channel, name: str, declared, contexts) -> None:
    """An event whose smallest record fits no sub-buffer would be lost at each call."""
    fields = [*declared, *(context.field for context in contexts)]
    least = _LEAST_HEADER + sum(_schema.least_size(field) for field in fields)
    room = channel.subbuf_size - channel.packet_header_size
    if least > room:
        largest = max(fields, key=_schema.least_size)
        raise ValueError(
            f"event {name!r} takes {least} bytes at least, most of them for field {largest.name!r}, and a sub-buffer "
            f"has room for {room}: make the channel's subbuf_size larger"
        )


resolve_contexts = _contexts.resolve  # Tracer.event has a parameter of the module's name


def _restore(cls, channel, extra) -> Tracer:
    return cls.attach(channel, contexts=extra)
