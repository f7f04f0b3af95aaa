"""Print what an extra of the installed project requires, a line each: extra.py NAME.

To install that alone: `pip install -e '.[NAME]'` would compile the extensions again.
"""

import re
import sys
from importlib.metadata import requires

PROJECT = "ringbuf-trace"


def requirements(extra):
    for line in requires(PROJECT):
        requirement, _, marker = line.partition(";")
        if re.search(rf"""extra == ['"]{extra}['"]""", marker):
            own = re.match(rf"{PROJECT}\[([\w-]+)\]", requirement)
            yield from requirements(own[1]) if own else [requirement.strip()]


print("\n".join(requirements(sys.argv[1])))
