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

IN_CI = os.environ.get("CI") == "true"

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
    "relacy": (["test", "-d", "/usr/include/relacy"], ""),
}


#: What else a command may be called, where Debian's package is not to be had.
OTHERWISE = {"chromium": "google-chrome"}


def missing(what):
    """Ends the calling test, because `what` is not on this machine."""
    import pytest

    if IN_CI:
        pytest.fail(f"{what} is missing, and CI=true allows no skips", pytrace=False)
    pytest.skip(f"{what} is missing", allow_module_level=True)


def module(name):
    """A module of Python."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return _missing_module(name)


def package(name):
    """A package of Python, for programs that a test runs; it is not imported here."""
    if importlib.util.find_spec(name) is None:
        _missing_module(name)


def _missing_module(name):
    import pytest

    if os.environ.get("RINGBUF_OTHER"):  # from tools/test.sh
        pytest.skip(f"{name} is installed for one interpreter only", allow_module_level=True)
    return missing(name)


def command(name):
    """The path of a command in PACKAGES; another one is an error, so that none is used which nobody installs."""
    packages = PACKAGES[name]
    return _which(name) or missing(f"{name} (of Debian's {' and '.join(packages)})")


def _which(name):
    return shutil.which(name) or (shutil.which(OTHERWISE[name]) if name in OTHERWISE else None)


def tool(name):
    """Something in CHECKS, which is no command."""
    if not is_there(name):
        missing(f"{name} (of Debian's {' and '.join(PACKAGES[name])})")


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
    packages = {package for name in PACKAGES if not is_there(name) for package in PACKAGES[name]}
    if "libclang-rt-dev" in packages and is_there("clang"):  # it may be another one than Debian's default
        version = subprocess.run(["clang", "--version"], capture_output=True, text=True, check=True).stdout
        major = re.search(r"version (\d+)", version)[1]
        packages = packages - {"libclang-rt-dev"} | {f"libclang-rt-{major}-dev"}
    return sorted(packages)


if __name__ == "__main__":
    print(*missing_packages())
