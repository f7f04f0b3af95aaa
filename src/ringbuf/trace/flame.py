"""Where time went, by what was open around it: collapsed stacks, and speedscope's JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["Flame", "burnt"]


@dataclass(frozen=True)
class Flame:
    """Self times by thread and stack. From `burnt`.

    Attributes
    ----------
    stacks : tuple of (str, tuple of str, int)
        Thread, names from the outermost on, nanoseconds. Stacks with no time in themselves are left out.
    """

    stacks: tuple[tuple[str, tuple[str, ...], int], ...]

    def collapsed(self) -> Iterator[str]:
        """Lines ``thread;outer;inner 1234``, as flamegraph.pl, inferno, speedscope and others take them."""
        for thread, names, ns in self.stacks:
            yield ";".join(map(_framed, (thread, *names))) + f" {ns}\n"

    def speedscope(self, title: str) -> str:
        """JSON for https://www.speedscope.app: a profile for each thread, in nanoseconds."""
        frames: dict[str, int] = {}
        profiles: dict[str, list] = {}
        for thread, names, ns in self.stacks:
            numbers = [frames.setdefault(name, len(frames)) for name in names]
            profiles.setdefault(thread, []).append((numbers, ns))
        return json.dumps(
            {
                "$schema": "https://www.speedscope.app/file-format-schema.json",
                "exporter": "ringbuf",
                "name": title,
                "shared": {"frames": [{"name": name} for name in frames]},
                "profiles": [_profile(thread, samples) for thread, samples in profiles.items()],
            }
        )


def _profile(thread: str, samples: list) -> dict:
    return {
        "type": "sampled",
        "name": thread,
        "unit": "nanoseconds",
        "startValue": 0,
        "endValue": sum(ns for _, ns in samples),
        "samples": [numbers for numbers, _ in samples],
        "weights": [ns for _, ns in samples],
    }


def _framed(name: str) -> str:
    """A name as part of a line: the signs that part names, and lines, are others."""
    return "".join("_" if one in ";\r\n" else one for one in name)


def burnt(pairs) -> Flame:
    """The flame graph of spans or calls: not of both, as the one may lie in the other.

    Parameters
    ----------
    pairs : Pairs
        What it does not have, by its `where`, is not in the graph; stacks are whole nevertheless.
    """
    import numpy

    keys, sums = numpy.zeros(0, "i8"), numpy.zeros(0, "i8")
    for rows in pairs.iter_numpy():
        keys, places = numpy.unique(
            numpy.concatenate([keys, rows["thread"].astype("i8") << 32 | rows["path"]]), return_inverse=True
        )
        known, sums = sums, numpy.zeros(len(keys), "i8")
        numpy.add.at(sums, places, numpy.concatenate([known, numpy.maximum(rows["self"], 0)]))
    threads, paths, names = [str(one) for one in pairs.threads], pairs.paths.tolist(), pairs.names
    stacks = [
        (threads[key >> 32], _names_of(key & 0xFFFFFFFF, paths, names), ns)
        for key, ns in zip(keys.tolist(), sums.tolist(), strict=True)
        if ns
    ]
    return Flame(tuple(sorted(stacks)))


def _names_of(path: int, paths: list, names: list[str]) -> tuple[str, ...]:
    found = []
    while path:
        path, name, _ = paths[path]
        found.append(names[name] or "(begin not recorded)")
    return tuple(reversed(found))
