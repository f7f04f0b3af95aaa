"""needs.py: what the tests call is what `make test` installs."""

import ast
import sys
from pathlib import Path

import needs
import pytest

TESTS = Path(__file__).parent
ROOT = TESTS.parent
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


def imported(node):
    """The modules that a statement imports, or for which a call asks `needs`."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and not node.level:
        yield node.module
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("needs.module", "needs.package"):
        yield from (part.value for part in ast.walk(node.args[0]) if isinstance(part, ast.Constant))


#: Modules of this tree; and the one that is Debian's.
OURS = {path.stem for top in ("tests", "bench", "examples", "src") for path in (ROOT / top).rglob("*.py*")}
OURS |= {"ringbuf", "bt2"}


def test_what_a_test_imports_is_installed_by_make_test():
    for path in SOURCES:
        names = {name.partition(".")[0] for node in ast.walk(ast.parse(path.read_text())) for name in imported(node)}
        for name in names - OURS - set(sys.stdlib_module_names):
            needs.distribution(name)


def test_no_test_is_skipped_for_want_of_a_module_without_needs():
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
                assert isinstance(node.args[0], ast.Constant) and node.args[0].value in OURS, f"{path}:{node.lineno}"


@pytest.mark.parametrize("name", ["requests", "trace0", "dask_expr"])
def test_a_module_that_nobody_installs_is_refused(name):
    with pytest.raises(KeyError):
        needs.module(name)


def test_what_a_test_calls_is_installed_by_make_test():
    for path in SOURCES:
        names = {name for node in ast.walk(ast.parse(path.read_text())) for name in called(node)}
        assert names <= set(needs.PACKAGES), path


def test_nothing_is_installed_that_no_test_calls():
    text = "\n".join(path.read_text() for path in [*SOURCES, ROOT / "Makefile"])
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


def test_other_interpreters_get_what_all_of_them_use(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(needs, "OTHER", True)
    monkeypatch.setattr(needs, "IN_CI", True)
    needs.is_there.cache_clear()
    try:
        assert {"babeltrace2", "gcc"} <= set(needs.missing_packages())
        assert not {"chromium", "valgrind"} & set(needs.missing_packages())
        with pytest.raises(pytest.fail.Exception, match="babeltrace2"):
            needs.command("babeltrace2")
        with pytest.raises(pytest.skip.Exception, match="for one interpreter only"):
            needs.command("valgrind")
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
