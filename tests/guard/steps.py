#!/usr/bin/env python3
"""Prints which step of a record from C takes how many instructions.

    tests/guard/steps.py [PART]

After the tests here have run: PART is build/guard/counted.callgrind.N, the first by default. Each instruction belongs
to the outermost function of STEPS that it was inlined from.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

BUILD = Path(__file__).parents[2] / "build" / "guard"
RECORDS = 1000  # of counted.c
STEPS = {
    "ringbuf_this_producer": "the thread's slot",
    "ringbuf_sample": "CPU number, position, clock",
    "ringbuf_ledger_try": "ledger entry",
    "ringbuf_entered": "which sub-buffer stands here",
    "ringbuf_timestamp_flags": "is a short time enough",
    "ringbuf_layout_record": "sizes and padding",
    "ringbuf_place_record": "addresses",
    "ringbuf_ledger_claim": "ledger: claiming",
    "ringbuf_begin_record": "header and context",
    "ringbuf_commit": "commit: ledger, add, base time, idle",
    "ringbuf_reserve_fast": "the swap, the slot's address, ledger words, the CPU again",
    "ringbuf_reserve_with": "state",
    "ringbuf_reserve": "context block, kind of channel",
    "record": "payload and loop",
}


def executed(part):
    """Address: how often it was executed."""
    counts, address, is_call = Counter(), 0, False
    for line in part.read_text().splitlines():
        found = re.match(r"(0x[0-9a-f]+|[+-]\d+|\*) \S+ (\d+)$", line)
        if found:
            where = found[1]
            address = int(where, 16) if where.startswith("0x") else address + (0 if where == "*" else int(where))
            counts[address] += 0 if is_call else int(found[2])
        is_call = line.startswith("calls=")
    return counts


def inlined_from(addresses):
    """Address: names of the functions that it is in, innermost first."""
    command = ["addr2line", "-f", "-i", "-a", "-e", BUILD / "counted"]
    text = "\n".join(map(hex, addresses))
    lines = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    functions = {}
    for line in lines:
        if line.startswith("0x"):
            names = functions[int(line, 16)] = []
        elif re.fullmatch(r"\w+", line):
            names.append(line)
    return functions


def main():
    part = Path(sys.argv[1]) if len(sys.argv) > 1 else BUILD / "counted.callgrind.1"
    counts = executed(part)
    steps = Counter()
    for address, names in inlined_from(counts).items():
        step = next((STEPS[name] for name in STEPS if name in names), "else")
        steps[step] += counts[address] / RECORDS
    print(re.search(r"Client Request: (.*)", part.read_text())[1])
    for step, count in steps.most_common():
        print(f"{count:6.0f}  {step}")
    print(f"{sum(steps.values()):6.0f}")


if __name__ == "__main__":
    main()
