"""What all threads and tasks of this process are in the middle of, as text. Runs no code of the program."""

import sys

__all__ = ["of_error", "of_threads"]

_FRAMES = 200  # of each stack, the innermost
_TASKS = 1000


def of_threads(first: int = 0, loops=()) -> str:
    """The stacks of all threads, innermost frame last; and of the tasks of event loops, where they wait.

    Parameters
    ----------
    first : int
        Identity of the thread to begin with; by default the one that runs.
    loops : iterable
        Event loops of asyncio, beside the one that runs here.
    """
    own = sys._getframe()
    frames = sys._current_frames()
    first = first or next((ident for ident, frame in frames.items() if frame is own), 0)
    parts = []
    for ident in sorted(frames, key=lambda ident: ident != first):
        lines = _stack(_without_ours(frames[ident]))
        if lines or ident == first:
            parts.append(f"Thread {_name_of_thread(ident)}:\n" + (lines or "  at its end\n"))
    for loop in _loops(loops):
        parts += [f"Task {_name_of_task(task)}:\n" + _awaits(task) for task in _tasks(loop)]
    return "\n".join(parts)


def of_error(error) -> str:
    """The traceback of an exception, and of those that it came from."""
    parts, seen = [], set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        lines, at = [], error.__traceback__
        while at is not None:
            lines.append(_line(at.tb_frame, at.tb_lineno))
            at = at.tb_next
        from ..texts import of_error as text

        parts.append("Traceback:\n" + "".join(lines[-_FRAMES:]) + f"{text(error)}\n")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\nwhich came from\n".join(parts)


def _without_ours(frame):
    """From the program's frame on: what takes the snapshot is no part of what the program does."""
    while frame is not None and frame.f_globals.get("__name__", "").startswith("ringbuf.watch"):
        frame = frame.f_back
    return frame


def _stack(frame) -> str:
    lines: list[str] = []
    while frame is not None and len(lines) < _FRAMES:
        lines.append(_line(frame, frame.f_lineno))
        frame = frame.f_back
    return "".join(reversed(lines))


def _line(frame, number) -> str:
    code = frame.f_code
    return f'  File "{code.co_filename}", line {number}, in {getattr(code, "co_qualname", code.co_name)}\n'


def _name_of_thread(ident: int) -> str:
    threads = getattr(sys.modules.get("threading"), "_active", {})
    name = getattr(threads.get(ident), "_name", None)
    return f"{name} ({ident})" if type(name) is str else str(ident)


# ---- tasks ----


def _loops(known) -> list:
    found = list(known)
    here = getattr(sys.modules.get("asyncio"), "_get_running_loop", lambda: None)()
    return found if here is None or here in found else [*found, here]


def _tasks(loop) -> list:
    """Those that are not done. The loop may be running in another thread."""
    asyncio = sys.modules.get("asyncio")
    for _ in range(3):
        try:
            return sorted(asyncio.all_tasks(loop), key=_name_of_task)[:_TASKS]
        except (RuntimeError, AttributeError):
            continue  # tasks came or went meanwhile
    return []


def _name_of_task(task) -> str:
    name = getattr(task, "get_name", lambda: "")()
    return name if type(name) is str else "?"


def _awaits(task) -> str:
    """Where it waits: its coroutine, what that awaits, and so on, as far as these are coroutines and generators."""
    lines: list[str] = []
    at = task.get_coro() if hasattr(task, "get_coro") else None
    while at is not None and len(lines) < _FRAMES:
        kind = next((kind for kind in ("cr", "gi", "ag") if hasattr(at, f"{kind}_frame")), None)
        if kind is None:
            return "".join(lines) + f"  which waits for a {type(at).__qualname__}\n"
        frame = getattr(at, f"{kind}_frame")
        if frame is not None:
            lines.append(_line(frame, frame.f_lineno))
        at = getattr(at, "gi_yieldfrom" if kind == "gi" else f"{kind}_await", None)
    return "".join(lines)
