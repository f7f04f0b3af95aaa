"""What the benchmarks compare with: found here, or skipped with the reason."""

import importlib
import importlib.metadata
import os
import shutil
import subprocess

import pytest

DEBIAN_PYTHON = "/usr/bin/python3"  # the one that Debian's bindings are for


def python_package(name, distribution=None):
    """Import a package of the optional-dependency group "bench"; its module and version."""
    try:
        return importlib.import_module(name), importlib.metadata.version(distribution or name)
    except ImportError:
        pytest.skip(f"{distribution or name} is not installed: pip install {distribution or name}")


def command(name, package):
    """The path of a command that a Debian package has."""
    return shutil.which(name) or pytest.skip(f"{name} is missing: apt-get install {package}")


def debian_module(name, package):
    """An interpreter that has a module which Debian packages."""
    found = os.access(DEBIAN_PYTHON, os.X_OK)
    if not found or subprocess.run([DEBIAN_PYTHON, "-c", f"import {name}"], capture_output=True).returncode:
        pytest.skip(f"no {name} for {DEBIAN_PYTHON}: apt-get install {package}")
    return DEBIAN_PYTHON


def debian_version(package):
    found = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True)
    return found.stdout.split("-")[0] if found.returncode == 0 else ""
