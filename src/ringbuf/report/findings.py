"""What stands out: sentences with a place in the time line, the gravest first."""

from __future__ import annotations

from collections import Counter

import numpy

from ..trace.pairs import MISSING
from ..trace.units import duration_text as ascii_duration

__all__ = ["findings"]

_UNENDED = [MISSING.index(one) for one in ("lost", "open", "died")]
_FEW, _FAR = 5, 4  # a name is of interest from so many on, if its slowest takes so many times its median
_MAJOR = 0.4  # of a slice, that one of its children takes to be the reason
_NOTABLE = 0.2  # of the longest excess: what is less is not told
_SHOWN = 4  # of each sort
_MOST_SLOW = 6
_WITHIN = " \u203a "


def findings(head: dict, rows, points, first: int) -> list[dict]:
    """[{"kind", "text", "slice" or "begin" and "end"}, ...]; `head` is that of the page."""
    look = _Look(head, rows, points, first)
    return [*look.damage(), *look.deaths(), *look.losses(), *look.slow(), *look.errors(), *look.ends(), *look.hot()]


class _Look:
    def __init__(self, head: dict, rows, points, first: int) -> None:
        self._head, self._rows, self._points, self._first = head, rows, points, first
        self._children: dict[tuple[int, int], list[int]] | None = None

    def _name(self, index: int) -> str:
        return self._head["names"][int(self._rows["name"][index])]

    # ---- deaths ----

    def deaths(self):
        for who, dead in self._dead().items():
            if not dead[0]["isDeath"]:
                continue
            last = max((one["last"] for one in dead if one["last"] is not None), default=None)
            open_ones = self._open_in(who)
            text = f"{self._process(who)} died" + ("" if last is None else f" at +{duration_text(max(0, last))}")
            torn = sum(one["open"] for one in dead)
            found = {"kind": "death", "text": text, "begin": last, "end": last, "pid": who[0]}
            if open_ones:
                inner = open_ones[-1]
                age = (last if last is not None else self._head["length"]) - int(
                    self._rows["begin"][inner] - self._first
                )
                where = _WITHIN.join(self._described(index) for index in open_ones[-6:])
                found["text"] += f" in the middle of {where}, {duration_text(max(0, age))} after that began"
                found["slice"] = inner
            if torn:
                found["text"] += f"; {torn} record{'s' * (torn > 1)} it was writing {'are' if torn > 1 else 'is'} lost"
            yield found

    def ends(self):
        """Processes that ended while others went on, with nothing open: that may be as it should."""
        ends = [(who, dead) for who, dead in self._dead().items() if dead[0]["isEarly"] and not dead[0]["isDeath"]]
        if not ends:
            return
        times = [max((one["last"] for one in dead if one["last"] is not None), default=None) for _, dead in ends]
        some = [
            self._process(who) + ("" if time is None else f" at +{duration_text(max(0, time))}")
            for (who, _), time in zip(ends[:_SHOWN], times, strict=False)
        ]
        more = f" and {len(ends) - _SHOWN} more" if len(ends) > _SHOWN else ""
        said = f"{', '.join(some)}{more} ended while others went on; nothing was open"
        yield {"kind": "end", "text": said, "begin": times[0], "end": times[0]}

    def _dead(self) -> dict:
        """Ends by process."""
        found: dict[int, list] = {}
        for one in self._head["deaths"]:
            found.setdefault((one["pid"], *one["processes"]), []).append(one)
        return found

    def _process(self, who: tuple) -> str:
        titles = [one["title"] for one in self._head["threads"] if one["number"] in who[1:]]
        return next((one for one in titles if not one.startswith("process ")), f"process {who[0]}")

    def _open_in(self, who: tuple) -> list[int]:
        """What never ended there, outermost first: of the thread that has the newest of them."""
        is_its = numpy.array([one["number"] in who[1:] for one in self._head["threads"]] or [False])
        rows = self._rows
        some = numpy.flatnonzero(numpy.isin(rows["end_missing"], _UNENDED) & is_its[rows["thread"]])
        if not len(some):
            return []
        newest = some[numpy.argmax(rows["begin"][some])]
        same = some[(rows["thread"][some] == rows["thread"][newest]) & (rows["task"][some] == rows["task"][newest])]
        return same[numpy.lexsort((rows["depth"][same], rows["begin"][same]))].tolist()

    # ---- losses ----

    def losses(self):
        lost = self._head["lost"]
        if lost["events"]:
            most = max(lost["places"], key=lambda one: one[3], default=None)
            text = f"{lost['events']} records were lost: there was no room for them, or their thread died over them"
            yield {"kind": "loss", "text": text + _at(most) + self._around(most), **_place(most)}
        if lost["packets"]:
            most = max(lost["places"], key=lambda one: one[4], default=None)
            text = f"{lost['packets']} packets of records are missing: overwritten, or not written"
            yield {"kind": "loss", "text": text + _at(most), **_place(most)}
        for pid, program, why in self._head["notRecorded"][:_SHOWN]:
            yield {"kind": "loss", "text": f"{program} {pid or ''} was not recorded: {why}"}

    def _around(self, loss) -> str:
        """Who recorded what most in that time: what is lost is likely to be like it."""
        points, first, last = self._points, loss[0] + self._first, loss[1] + self._first
        some = points[(points["timestamp"] >= first) & (points["timestamp"] <= last)]
        if not len(some):
            return ""
        keys, counts = numpy.unique(some["track"].astype("i8") << 32 | some["name"], return_counts=True)
        key = int(keys[numpy.argmax(counts)])
        thread = self._head["threads"][self._head["tracks"][key >> 32][0]]["text"]
        return f"; what was recorded then is mostly {self._head['events'][key & 0xFFFFFFFF]}, by {thread}"

    def damage(self):
        if self._head["isEmpty"]:
            yield {"kind": "damage", "text": "The trace has no packet: nothing was written, or its files are missing"}
        for one in self._head["damage"][:_SHOWN]:
            yield {"kind": "damage", "text": f"Damaged: {one['text']}", "begin": one["begin"], "end": one["end"]}
        if len(self._head["damage"]) > _SHOWN:
            yield {"kind": "damage", "text": f"{len(self._head['damage']) - _SHOWN} more places are damaged"}

    # ---- slow ----

    def slow(self):
        """The slowest of names whose slowest is far from the usual, with what took its time."""
        far = [(row, index) for row in self._ours() if _is_far(row) for index in self._slowest(row)]
        most = max((self._excess(*one) for one in far), default=0)
        far = [one for one in far if self._excess(*one) >= most * _NOTABLE]
        far.sort(key=lambda one: (int(self._rows["depth"][one[1]]), -self._excess(*one)))  # what is around first
        explained: set[int] = set()
        told: set[tuple] = set()
        for row, slowest in far:
            if slowest in explained:
                continue
            chain = self._reason(slowest)
            explained.update(chain, [slowest])
            words = tuple(self._described(index) for index in (slowest, *chain))
            if words in told or len(told) >= _MOST_SLOW:
                continue  # one of its kind is enough
            told.add(words)
            duration = int(self._rows["duration"][slowest])
            text = (
                f"{self._described(slowest)}: took {duration_text(duration)}, where half of {row['count']} took less "
                f"than {duration_text(row['p50'])}"
            )
            if chain:
                part = int(self._rows["duration"][chain[-1]]) / max(1, duration)
                text += f"; {part:.0%} of it in {_WITHIN.join(self._described(index) for index in chain)}"
            thread = self._head["threads"][int(self._rows["thread"][slowest])]["text"]
            yield {"kind": "slow", "text": f"{text} ({thread})", "slice": slowest}

    def _excess(self, row: dict, index: int) -> int:
        return int(self._rows["duration"][index]) - row["p50"]

    def _slowest(self, row: dict) -> list[int]:
        """Those of a name that are far from the usual, the slowest first."""
        rows, numbers = self._rows, [i for i, name in enumerate(self._head["names"]) if name == row["name"]]
        some = numpy.flatnonzero(
            numpy.isin(rows["name"], numbers) & (rows["begin_missing"] == 0) & (rows["end_missing"] == 0)
        )
        some = some[rows["duration"][some] >= _FAR * (row["p50"] or 1)]
        return some[numpy.argsort(-rows["duration"][some], kind="stable")][:_SHOWN].tolist()

    def _described(self, index: int) -> str:
        """Its name, with its fields."""
        fields = self._head["details"]["slices"].get(index, {})
        some = " ".join(f"{name}={value}" for name, value in list(fields.items())[:3])
        return f"{self._name(index)} ({some[:80]})" if some else self._name(index)

    def _reason(self, index: int) -> list[int]:
        """The child that takes most of a slice, its child, and so on."""
        chain, rows = [], self._rows
        while len(chain) < 5:
            children = self._children_of(index)
            if not children:
                break
            largest = max(children, key=lambda child: int(rows["duration"][child]))
            if int(rows["duration"][largest]) < _MAJOR * int(rows["duration"][index]):
                break
            chain.append(largest)
            index = largest
        return chain

    def _children_of(self, index: int) -> list[int]:
        if self._children is None:
            self._children = {}
            keys = zip((self._rows["kind"] == 1).tolist(), self._rows["parent"].tolist(), strict=True)
            for child, key in enumerate(keys):
                if key[1]:
                    self._children.setdefault(key, []).append(child)
        return self._children.get((bool(self._rows["kind"][index] == 1), int(self._rows["id"][index])), [])

    def _ours(self) -> list[dict]:
        """What the program did, not the kernel: a wait in a system call is told as a part of a span or call."""
        return [row for row in self._head["table"] if row["kind"] in ("span", "call")]

    def errors(self):
        for name, count in Counter(self._head["errors"]).most_common(_SHOWN):
            some = numpy.flatnonzero(self._rows["error"] != 0).tolist()
            first = next(
                (index for index in some if self._head["texts"][int(self._rows["error"][index])] == name), None
            )
            text = f"{count} span{'s' * (count > 1)} ended with {name}"
            if first is None:
                yield {"kind": "error", "text": text}
                continue
            said = self._head["details"]["errors"].get(first, "")
            yield {"kind": "error", "text": f"{text}, first {self._described(first)}: {said}", "slice": first}

    def hot(self):
        total = sum(row["self_time"] or 0 for row in self._ours())
        rows = sorted(self._ours(), key=lambda row: -(row["self_time"] or 0))
        for row in rows[:1]:
            if total and row["self_time"]:
                text = (
                    f"Most time by itself: {row['name']}, {row['self_time'] / total:.0%} of all ({row['count']} times)"
                )
                yield {"kind": "hot", "text": text, "name": row["name"]}


def duration_text(ns: int) -> str:
    """As the page writes it."""
    return ascii_duration(ns).replace(" us", " \u00b5s")


def _is_far(row: dict) -> bool:
    return row["count"] >= _FEW and bool(row["max"]) and row["max"] >= _FAR * (row["p50"] or 1)


def _place(loss) -> dict:
    return {} if loss is None else {"begin": loss[0], "end": loss[1]}


def _at(loss) -> str:
    if loss is None:
        return ""
    first, last = (duration_text(max(0, time)) for time in loss[:2])
    where = "" if loss[2] is None else f" on CPU {loss[2]}"
    return f" (most of them{where} between +{first} and +{last})"
