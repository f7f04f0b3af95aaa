"""What the tests need from outside Python: skipped where it is missing, a failure where CI=true."""

import importlib
import os
import shutil

import pytest

IN_CI = os.environ.get("CI") == "true"


def missing(what):
    """Ends the calling test, because `what` is not on this machine."""
    if IN_CI:
        pytest.fail(f"{what} is missing, and CI=true allows no skips", pytrace=False)
    pytest.skip(f"{what} is missing")


def module(name):
    """A module of Python."""
    try:
        return importlib.import_module(name)
    except ImportError:
        if os.environ.get("RINGBUF_OTHER"):  # from tools/test.sh
            pytest.skip(f"{name} is installed for one interpreter only")
        return missing(name)


def command(name):
    """The path of a command."""
    return shutil.which(name) or missing(name)
