"""What the tests need from outside Python: skipped where it is missing, a failure where CI=true.

`python tests/needs.py` prints the Debian packages with what this machine lacks; tools/test.sh installs them.
"""

import functools
import importlib
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

IN_CI = os.environ.get("CI") == "true"

#: From tools/test.sh: this interpreter runs only the tests that all of them run.
OTHER = bool(os.environ.get("RINGBUF_OTHER"))

#: The tools that those call; what the rest of PACKAGES takes is not installed for each interpreter's system.
FOR_ALL = {"babeltrace2", "bt2", "cc", "env", "ip", "mount", "sh", "umount", "unshare"}

# Debian's bindings of babeltrace2 are built for Debian's interpreter, whichever one runs the tests.
BT2_PYTHON = "/usr/bin/python3"

#: Whatever the tests call that is neither Python's nor ours, and the Debian packages with it.
PACKAGES = {
    "aarch64-linux-gnu-gcc": ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    "babeltrace2": ["babeltrace2"],
    "bt2": ["python3-bt2"],
    "cc": ["gcc", "libc6-dev"],
    "chromium": ["chromium"],
    "clang": ["clang"],
    "env": ["coreutils"],
    "g++": ["g++"],
    "ip": ["iproute2"],
    "libclang_rt": ["libclang-rt-dev"],
    "lttng": ["lttng-tools"],
    "lttng-ust": ["liblttng-ust-dev"],
    "mount": ["mount"],
    "musl-gcc": ["musl-tools"],
    "qemu-aarch64": ["qemu-user"],
    "relacy": ["relacy-dev"],
    "sh": ["dash"],
    "umount": ["mount"],
    "unshare": ["util-linux"],
    "valgrind": ["valgrind"],
}

FUZZED = "int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return 0 * size * *data; }"

#: How to see whether what is no command is there: a command, and its input.
CHECKS = {
    "bt2": ([BT2_PYTHON, "-I", "-c", "import bt2"], ""),
    "libclang_rt": (["clang", "-xc", "-", "-fsanitize=fuzzer,address,undefined", "-o", os.devnull], FUZZED),
    "lttng-ust": (["cc", "-xc", "-", "-llttng-ust", "-o", os.devnull], "#include <lttng/tracepoint.h>\nint main() {}"),
    "relacy": (["test", "-d", "/usr/include/relacy"], ""),
}


#: What else a command may be called, where Debian's package is not to be had.
OTHERWISE = {"chromium": "google-chrome"}

#: Modules of Python, and what pip calls them, where that is another name.
DISTRIBUTIONS = {"daemon": "python-daemon", "opentelemetry": "opentelemetry-sdk", "xdist": "pytest-xdist"}

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def missing(what):
    """Ends the calling test, because `what` is not on this machine."""
    import pytest

    if IN_CI:
        pytest.fail(f"{what} is missing, and CI=true allows no skips", pytrace=False)
    pytest.skip(f"{what} is missing", allow_module_level=True)


def distribution(name):
    """What pip installs for a module; one that pyproject.toml does not have for the tests is an error."""
    top = name.partition(".")[0]
    known = DISTRIBUTIONS.get(top, top.lower().replace("_", "-"))
    if known not in distributions():
        raise KeyError(f"{known}: not among the extra `test-once` of pyproject.toml, nor what that takes")
    return known


@functools.cache
def distributions():
    """What pip installs for the tests by the lists in pyproject.toml."""
    text = PYPROJECT.read_text()
    lists = {name: re.findall(r'"([\w.-]+)(?:\[([\w-]+)\])?', inside)
             for name, inside in re.findall(r"^([\w-]+) = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)}  # fmt: skip
    (own,) = re.findall(r'^name = "(.*?)"', text, re.MULTILINE)

    def names(key):
        for name, extra in lists[key]:
            yield from names(extra) if name == own else [name]

    return {name for key in ("requires", "dependencies", "test", "test-once") for name in names(key)}


def module(name):
    """A module of Python, of a package in the extras of pyproject.toml for tests; another one is an error."""
    distribution(name)
    try:
        return importlib.import_module(name)
    except ImportError:
        return _missing_module(name)


def package(name):
    """A package of Python, for programs that a test runs; it is not imported here."""
    distribution(name)
    if importlib.util.find_spec(name) is None:
        _missing_module(name)


def _missing_module(name):
    return _for_one_only(name) if OTHER else missing(name)


def _for_one_only(name):
    import pytest

    pytest.skip(f"{name} is installed for one interpreter only", allow_module_level=True)


def _missing_tool(name):
    if OTHER and name not in FOR_ALL:
        _for_one_only(name)
    missing(f"{name} (of Debian's {' and '.join(PACKAGES[name])})")


def command(name):
    """The path of a command in PACKAGES; another one is an error, so that none is used which nobody installs."""
    if name not in PACKAGES:
        raise KeyError(name)
    return _which(name) or _missing_tool(name)


def _which(name):
    return shutil.which(name) or (shutil.which(OTHERWISE[name]) if name in OTHERWISE else None)


def tool(name):
    """Something in CHECKS, which is no command."""
    if not is_there(name):
        _missing_tool(name)


@functools.cache
def is_there(name):
    if name not in CHECKS:
        return _which(name) is not None
    arguments, text = CHECKS[name]
    try:
        return subprocess.run(arguments, input=text, text=True, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def missing_packages():
    """Debian's packages with everything that is not there."""
    wanted = FOR_ALL if OTHER else PACKAGES
    packages = {package for name in wanted if not is_there(name) for package in PACKAGES[name]}
    if "libclang-rt-dev" in packages and is_there("clang"):  # it may be another one than Debian's default
        version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
        major = re.search(r"version (\d+)", version)[1]
        packages = packages - {"libclang-rt-dev"} | {f"libclang-rt-{major}-dev"}
    return sorted(packages)


if __name__ == "__main__":
    print(*missing_packages())
