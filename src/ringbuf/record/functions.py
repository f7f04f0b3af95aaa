"""Which functions run: every call of Python code, recorded as it begins and ends.

By `sys.monitoring` from Python 3.12 on; before, by a profile function, of which a thread has one: while the
program has set its own (cProfile), its calls are not recorded. Events: docs/formats.md, "Spans, calls, log records".
"""

import sys

from .._core import Calls, Profiling, glob_matches
from ..texts import encodable
from .later import when_imported
from .strands import Strands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Functions", "is_wanted", "take_tool"]

_REQUEST = "ringbuf.inject.request"  # in what `ringbuf attach` runs, in a module without a name
_FOREVER = 1e9  # seconds
_OURSELVES = ("ringbuf", "_ringbuf_start")
#: Of C, and not recorded: from these another process returns as well, or, of greenlets, another stack does.
_LEAVING = ("posix.fork", "posix.forkpty")
#: Left out by default beside the standard library: what it and its build make up, and the set-up of Python, which
#: distributions and editable installs add to.
_MADE_UP = (
    *("namedtuple_*", "_missing_stdlib_info", "_sysconfigdata_*"),
    *("_distutils_hack", "sitecustomize", "usercustomize", "__editable__*"),
)


class Functions:
    """Records calls, from `start` to `stop`; a context manager.

    Parameters
    ----------
    tracer : Tracer
    include : iterable of str
        Modules to record, as patterns: ``shop`` is the package and all in it, ``shop.*_view`` some
        of it, ``*`` everything. By default everything but the standard library.
    exclude : iterable of str
        Modules to leave out, whatever `include` says.
    displaced : callable, optional
        Called when the program sets a profile function of its own (before Python 3.12).
    c_functions : bool
        Also calls of functions, methods and types of C, such as `len`, where a function that is recorded makes them.
    retell : bool
        Tell again now and then which functions there are, as the oldest records go: with `Recorder(max_size=)`. In
        overwrite mode that is so anyway.
    min_duration : float
        Seconds. Only calls that take so long, or longer, are recorded; those around one take no less, so what is
        recorded nests as ever. The begin stands in the trace when that is known, with the time at which it was: a
        call that goes on shows as soon as it takes that long and something within it begins or ends.
    max_depth : int, optional
        Only calls that are made within fewer others that are recorded by the module's pattern: 1 are the outermost.

    With either, a step of a generator, a coroutine or a greenlet counts as a call of its own, as it is recorded; calls
    that run when recording begins are left out; and a forked child's begin with it. An exception ends a call as a
    return does.

    Functions that are left out cost next to nothing from Python 3.12 on.
    """

    def __init__(
        self,
        tracer,
        include: "Iterable[str]" = (),
        exclude: "Iterable[str]" = (),
        displaced: "Callable[[], object] | None" = None,
        c_functions: bool = False,
        retell: bool = False,
        min_duration: float = 0.0,
        max_depth: "int | None" = None,
    ) -> None:
        if not 0 <= min_duration < _FOREVER:
            raise ValueError(f"min_duration is a number of seconds, not {min_duration!r}")
        if max_depth is not None and not 0 < max_depth < 1 << 31:
            raise ValueError(f"max_depth is a number of calls, 1 or more, not {max_depth!r}")
        self._include, self._exclude = tuple(include), tuple(exclude)
        self._wanted: dict[str, bool] = {}  # by module
        self._channel = tracer.channel
        self._code = tracer.event("function_code", code="u32", name="str", file="str", line="u32", image="u32")
        self._ticks = max(1, round(min_duration * tracer.channel.clock_parameters[1])) if min_duration else 0
        self._max_depth = max_depth or 0
        began = {"began": "u64"} if min_duration else {}
        self._events = tracer.event("function_begin", code="u32", **began), tracer.event("function_end", code="u32")
        self._names: dict[int, str] = {}  # by code
        self._retell = retell or tracer.channel.mode == "overwrite"
        self._displaced, self._c_functions = displaced, c_functions
        self._strands = Strands(tracer, self._retell)
        self._calls: Calls | None = None

    def start(self) -> None:
        """Record from now on, in all threads; before Python 3.12, in this one and those to come.

        Raises
        ------
        RuntimeError
            It is started already, or others have taken all ids for tools.
        """
        if self._calls is not None:
            raise RuntimeError("functions are recorded already")
        disable = sys.monitoring.DISABLE if hasattr(sys, "monitoring") else None
        declare_c = self._declare_c if self._c_functions else None
        calls = Calls(
            *self._events, self._strands, self._declare, self._retell, disable, declare_c, self._ticks, self._max_depth,
            self._names,
        )  # fmt: skip
        if disable is not None:
            try:
                self._tool = take_tool(sys.monitoring)
            except RuntimeError:
                calls.stop()
                raise
        self._calls = self._strands.calls = calls
        if disable is not None:
            self._monitor(sys.monitoring)
        else:
            self._profile()
        when_imported("greenlet", self._follow_greenlets)

    def stop(self) -> None:
        """Record no more. Twice is harmless."""
        calls, self._calls = self._calls, None
        if calls is None:
            return
        calls.stop()
        if hasattr(sys, "monitoring"):
            sys.monitoring.set_events(self._tool, 0)
            for happens in calls.callbacks():  # what is registered keeps the channel
                sys.monitoring.register_callback(self._tool, getattr(sys.monitoring.events, happens), None)
            sys.monitoring.free_tool_id(self._tool)
        else:
            self._profiling.stop()

    def __enter__(self) -> "Functions":
        self.start()
        return self

    def __exit__(self, *exc) -> None:
        self.stop()

    def _monitor(self, monitoring) -> None:
        events = self._register(monitoring)
        monitoring.restart_events()  # what was disabled, for other modules
        monitoring.set_events(self._tool, events)

    def _register(self, monitoring) -> int:
        """The callbacks of `Calls`; all events that they are for."""
        events = 0
        for happens, callback in self._calls.callbacks().items():
            event = getattr(monitoring.events, happens)
            monitoring.register_callback(self._tool, event, callback)
            events |= event
        return events

    def _follow_greenlets(self, greenlet) -> None:
        """The program uses greenlets: until now nothing asked at each call whether it does."""
        if self._calls is None or not hasattr(greenlet, "settrace"):
            return
        self._strands.greenlets(greenlet)
        self._calls.follow_greenlets()
        if hasattr(sys, "monitoring"):
            self._register(sys.monitoring)

    def _profile(self) -> None:
        self._profiling = Profiling(self._calls, self._displaced)
        self._profiling.start()
        when_imported("threading", self._profiling.start_in_threads)

    def _declare(self, number: int, code, names: dict) -> bool | None:
        """What `Calls` asks when it meets a code."""
        module = names.get("__name__") or (_OURSELVES[0] if _REQUEST in code.co_consts else "?")
        if not isinstance(module, str):
            return None  # the interpreter is taking the module to pieces
        wanted = self._wanted.get(module)
        if wanted is None:
            wanted = self._wanted[module] = is_wanted(module, self._include, self._exclude)
        if not wanted:
            return None
        name = f"{module}.{getattr(code, 'co_qualname', code.co_name)}"
        where = encodable(code.co_filename), code.co_firstlineno
        self._names[number] = name
        return self._code(number, encodable(name), *where, self._channel.image)

    def _declare_c(self, number: int, name: str) -> bool | None:
        """The same of a function of C."""
        module = name.rpartition(".")[0] or "builtins"
        if name in _LEAVING or module.startswith("greenlet") or _matches(module, self._exclude):
            return None
        self._names[number] = name
        return self._code(number, encodable(name), "", 0, self._channel.image)


def is_wanted(module: str, include: "Iterable[str]", exclude: "Iterable[str]") -> bool:
    """Is what this module does to be recorded? As `Functions` has it."""
    package = module.partition(".")[0]
    if package in _OURSELVES or _matches(module, exclude):
        return False
    if include:
        return _matches(module, include)
    return package not in sys.stdlib_module_names and not _matches(module, _MADE_UP)


def _matches(module: str, patterns: "Iterable[str]") -> bool:
    """A pattern matches a module, or a package that it is in."""
    return any(glob_matches(one, module) or glob_matches(f"{one}.*", module) for one in patterns)


def take_tool(monitoring) -> int:
    """An id that has no purpose of its own, if there is one left."""
    for tool in (4, 3, monitoring.PROFILER_ID):
        if monitoring.get_tool(tool) is None:
            monitoring.use_tool_id(tool, "ringbuf")
            return tool
    raise RuntimeError("sys.monitoring has no tool id left")
