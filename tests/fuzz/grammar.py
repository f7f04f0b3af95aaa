#!/usr/bin/env python3
"""Traces of random types and random bytes: whatever they are, they are read, or refused with a TraceError.

tests/fuzz/grammar.py FIRST LAST      the seeds to try, in one process; a failure names its seed
"""

import random
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
import hostile

import ringbuf
from ringbuf import Limits, TraceError

LIMITS = Limits(empty_values=1 << 14, text_size=1 << 20, row_size=1 << 20, packet_size=1 << 20)
LENGTHS = (0, 1, 2, 3, 7, 255, 65535, 65536, 1 << 31, 1 << 40)


class Types:
    """Fields of a structure, one after another; later ones may refer to earlier ones."""

    def __init__(self, rnd):
        self.rnd, self.n = rnd, 0
        self.numbers, self.tags = [], []

    def name(self):
        self.n += 1
        return f"f{self.n}"

    def integer(self, **fixed):
        options = {
            "size": self.rnd.choice((1, 3, 8, 8, 16, 31, 32, 63, 64)),
            "align": self.rnd.choice((1, 1, 8, 32, 64)),
            "signed": self.rnd.choice(("true", "false")),
            "base": self.rnd.choice((8, 10, 16)),
            "byte_order": self.rnd.choice(("le", "be")),
            **({"map": "clock.c.value"} if self.rnd.random() < 0.1 else {}),
            **({"encoding": "UTF8"} if self.rnd.random() < 0.2 else {}),
            **fixed,
        }
        return "integer { " + " ".join(f"{name} = {value};" for name, value in options.items()) + " }"

    def scalar(self, depth):
        kind = self.rnd.randrange(7)
        if kind <= 1:
            return self.integer()
        if kind == 2:
            return "string"
        if kind == 3:
            digits = self.rnd.choice(("exp_dig = 8; mant_dig = 24;", "exp_dig = 11; mant_dig = 53;"))
            return f"floating_point {{ {digits} align = {self.rnd.choice((1, 8))}; }}"
        if kind == 4 or depth > 3:
            return self.enumeration()
        if kind == 5 and self.tags:
            options = " ".join(f"{self.scalar(depth + 1)} {label};" for label in ("a", "b"))
            return f"variant <{self.rnd.choice(self.tags)}> {{ {options} }}"
        inner = Types(self.rnd)
        return f"struct {{ {inner.fields(depth + 1)} }}"

    def enumeration(self):
        labels = ", ".join(f"l{i} = {self.rnd.randrange(9)} ... 99" for i in range(self.rnd.choice((1, 3, 300))))
        return f"enum : {self.integer(size=8, signed='false')} {{ {labels} }}"

    def field(self, depth):
        name, kind = self.name(), self.rnd.random()
        if kind < 0.15:
            self.numbers.append(name)
            return f"{self.integer(size=8, align=8, signed='false', base=10)} {name};"
        if kind < 0.25:
            self.tags.append(name)
            return f"enum : uint8_t {{ a = 0 ... 99, b = 100 ... 255 }} {name};"
        brackets = ""
        while self.rnd.random() < 0.35:
            if self.numbers and self.rnd.random() < 0.5:
                brackets += f"[{self.rnd.choice(self.numbers)}]"
            else:
                brackets += f"[{self.rnd.choice(LENGTHS)}]"
        return f"{self.scalar(depth)} {name}{brackets};"

    def fields(self, depth=0):
        return " ".join(self.field(depth) for _ in range(self.rnd.randrange(0, 5)))


def attempt(function):
    try:
        function()
    except TraceError:
        pass


def read(path):
    """Read the trace in every way; what is raised must be a TraceError."""
    try:
        trace = ringbuf.open_trace(path, limits=LIMITS)
    except TraceError:
        return
    attempt(lambda: [(record.fields, record.contexts, record.payload) for record in trace])
    attempt(lambda: list(trace.iter_text()))
    attempt(lambda: trace.to_numpy("e"))
    attempt(trace.count)
    attempt(lambda: trace.export(path / "../x.json"))
    attempt(lambda: trace.export(path / "../x.pftrace"))


def try_seed(seed, folder):
    rnd = random.Random(seed)
    content = rnd.choice((bytes, rnd.randbytes))  # of zeros, there is always a next event
    payloads = [content(rnd.choice((0, 1, 9, 60))) for _ in range(rnd.randrange(1, 4))]
    metadata = hostile.event(Types(rnd).fields())
    padding = rnd.choice((0, 0, 3, 900))
    try:
        read(hostile.trace(folder / f"t{seed}", metadata, hostile.packet(payloads, padding=padding)))
    except BaseException:
        print(f"seed {seed}", file=sys.stderr, flush=True)
        raise


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(int(sys.argv[1]), int(sys.argv[2])):
            try_seed(seed, Path(folder))
