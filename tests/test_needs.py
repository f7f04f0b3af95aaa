"""needs.py: what the tests call is what `make test` installs."""

import ast
from pathlib import Path

import needs
import pytest

TESTS = Path(__file__).parent
SOURCES = sorted(path for path in TESTS.rglob("*.py") if path.name != "needs.py")
STARTERS = {"run", "Popen", "call", "check_call", "check_output"}


def called(node):
    """The tools that a call names: of `needs`, of `shutil.which`, of `subprocess`."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute) or not node.args:
        return
    owner, name = ast.unparse(node.func.value), node.func.attr
    first = node.args[0]
    if owner == "subprocess" and name in STARTERS and isinstance(first, (ast.List, ast.Tuple)) and first.elts:
        first = first.elts[0]
    elif (owner, name) not in (("needs", "command"), ("needs", "tool"), ("shutil", "which")):
        return
    if isinstance(first, ast.Constant):
        yield first.value


def test_what_a_test_calls_is_installed_by_make_test():
    for path in SOURCES:
        names = {name for node in ast.walk(ast.parse(path.read_text())) for name in called(node)}
        assert names <= set(needs.PACKAGES), path


def test_nothing_is_installed_that_no_test_calls():
    text = "\n".join(path.read_text() for path in [*SOURCES, TESTS.parent / "Makefile"])
    assert [name for name in needs.PACKAGES if f'"{name}"' not in text] == []


@pytest.mark.parametrize("tool", ["jq", "python3"])
def test_a_tool_that_nobody_installs_is_refused(tool):
    with pytest.raises(KeyError):
        needs.command(tool)


def test_what_is_missing_is_named_by_its_package(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    needs.is_there.cache_clear()
    try:
        assert {"gcc", "clang", "libclang-rt-dev", "valgrind"} <= set(needs.missing_packages())
    finally:
        needs.is_there.cache_clear()


def test_the_runtime_of_clang_is_that_of_the_clang_that_is_there(monkeypatch, tmp_path):
    fake = tmp_path / "clang"
    fake.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Debian clang version 23.1.0 (1)"\n')
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    needs.is_there.cache_clear()
    try:
        assert "libclang-rt-23-dev" in needs.missing_packages()
    finally:
        needs.is_there.cache_clear()
