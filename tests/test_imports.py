"""What is imported with ringbuf: nothing that a program would notice, or wait for, before it is needed."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

import ringbuf

BUILT_IN = {"_contextvars", "_operator", "_signal", "itertools", "time"}


def imported(program):
    """Modules, without ours and those built in, that a fresh Python has after `program` and did not have before."""
    show = f"import sys; before = set(sys.modules)\n{program}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, timeout=60)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    return {name for name in roots if name not in BUILT_IN and not name.startswith(("_cython", "cython", "ringbuf"))}


def test_importing_ringbuf_imports_next_to_nothing():
    assert not imported("import ringbuf")


def test_what_runs_in_recorded_programs_imports_next_to_nothing():
    parts = ", ".join(f"ringbuf.inject.{name}" for name in ("audit", "children", "logs", "notes"))
    assert not imported(f"import {parts}, ringbuf.record.functions")


def test_a_tracer_needs_no_heavy_modules():
    heavy = {"ast", "asyncio", "dataclasses", "inspect", "logging", "multiprocessing", "numpy", "pathlib", "socket",
             "subprocess", "tempfile", "typing"}  # fmt: skip
    program = "import ringbuf; tracer = ringbuf.Tracer('x'); tracer.event('e', n='u8')(1)\nwith tracer.span('s'): pass"
    if sys.version_info < (3, 11):
        heavy.remove("subprocess")  # uuid imports platform there, and that imports it
    assert not imported(program) & heavy


@pytest.mark.parametrize("name", ringbuf.__all__)
def test_each_public_name_is_there_and_listed(name):
    assert name in dir(ringbuf)
    assert getattr(ringbuf, name) is getattr(ringbuf, name)


def test_there_are_no_other_names():
    with pytest.raises(AttributeError, match="module 'ringbuf' has no attribute 'nothing'"):
        _ = ringbuf.nothing


def test_all_names_are_known_to_type_checkers_and_at_run_time():
    from_source = set(ringbuf._MODULES)
    assert from_source | {name for name in vars(ringbuf) if name in ringbuf.__all__} == set(ringbuf.__all__)
    with open(ringbuf.__file__) as file:
        text = file.read().partition("if TYPE_CHECKING:")[2].partition("__version__")[0]
    lists = [line.partition(" import ")[2] for line in text.splitlines()]
    assert {name.strip() for names in lists for name in names.split(",") if name} == from_source


# ---- arrows ----

PACKAGE = Path(ringbuf.__file__).parent
#: Goes up: programs that record take from inject what was set up before they began. No other may come to it.
UPWARDS = {("record", "inject")}


def needed_by(path):
    """What a module imports of ringbuf when it is imported: packages, and modules beside them."""
    where = path.relative_to(PACKAGE).parts[:-1]
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*where[: len(where) - node.level + 1], *filter(None, (node.module or "").split("."))]
            yield from base[:1] or [alias.name for alias in node.names]


def test_imports_between_packages_make_no_circle():
    arrows = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts != ("__init__",):
            found = {name for name in needed_by(path) if name != parts[0] and (parts[0], name) not in UPWARDS}
            arrows.setdefault(parts[0], set()).update(found)
    order = list(graphlib.TopologicalSorter(arrows).static_order())  # raises CycleError, which names the circle
    assert order.index("_core") < order.index("ctf") < order.index("record") < order.index("cli")
