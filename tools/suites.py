"""Compares every trace below some directories with babeltrace2, line by line; fetches nothing.

    tools/suites.py DIR...

RINGBUF_BABELTRACE2 names a babeltrace2 (2.1 reads CTF 2); else the one on the PATH. Members that only help to read
another one, which we leave out, are taken from its lines. Exit status 1: there is a difference.
"""

import os
import re
import subprocess
import sys
from itertools import zip_longest

from ringbuf import open_trace
from ringbuf.errors import TraceError

HELPER = re.compile(
    r"(?<=[{,] )(?:_\w+_length = \d+|_\w+_tag = \( \"aligned\" : container = 0 \)|_\w+_align = { { } }), "
)
LABELS = re.compile(r'\( (?:{ )?("(?:[^"\\]|\\.)*"(?:, "(?:[^"\\]|\\.)*")+)(?: })? : ')


def same_order(line: str) -> str:
    """Without helpers; several labels of a value in one order."""
    return LABELS.sub(sorted_labels, HELPER.sub("", line))


def sorted_labels(found: re.Match) -> str:
    labels = re.findall(r'"(?:[^"\\]|\\.)*"', found[1])
    return f"( {{ {', '.join(sorted(labels))} }} : "


def ours(directory: str) -> tuple[list[str], str | None]:
    """Lines, and the reason if it ends with an error."""
    lines: list[str] = []
    try:
        with open_trace(directory) as trace:
            for part in trace.iter_text():
                lines += part.split("\n")[:-1]
    except TraceError as error:
        return lines, str(error)
    return lines, None


def theirs(directory: str) -> tuple[list[str], str | None]:
    command = [os.environ.get("RINGBUF_BABELTRACE2", "babeltrace2"), "--clock-date", directory]
    done = subprocess.run(command, capture_output=True, check=False)
    errors = done.stderr.decode("utf-8", "replace").splitlines()
    reason = next((line for line in errors if " E " in line), f"status {done.returncode}")
    return done.stdout.decode("utf-8", "replace").split("\n")[:-1], reason if done.returncode else None


def compare(directory: str) -> bool:
    mine, my_reason = ours(directory)
    others, reason = theirs(directory)
    pairs = list(zip_longest(map(same_order, mine), map(same_order, others)))
    different = next((pair for pair in pairs if pair[0] != pair[1]), None)
    if different is None and (my_reason is None) == (reason is None):
        return True
    print(f"{directory}: {len(mine)} lines, babeltrace2 {len(others)}")
    for name, one in (("we say", my_reason), ("babeltrace2 says", reason)):
        if one is not None:
            print(f"  {name}: {one[:200]}")
    for name, line in zip(("ours", "theirs"), different or (), strict=False):
        print(f"  {name}: {(line or '-')[:200]}")
    return False


def main(roots: list[str]) -> int:
    found = [folder for root in roots for folder, _, files in sorted(os.walk(root)) if "metadata" in files]
    results = [compare(folder) for folder in found]
    print(f"{len(results)} traces, {results.count(True)} the same")
    return 0 if found and all(results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
