"""src/ringbuf/_core.pyi says what the compiled module has: no checker can look into that."""

import ast
import inspect
from pathlib import Path

import pytest

from ringbuf import _core

STUB = ast.parse(Path(__file__).parents[1].joinpath("src/ringbuf/_core.pyi").read_text())
CLASSES = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef)}
FUNCTIONS = {node.name for node in STUB.body if isinstance(node, ast.FunctionDef)}


def is_public(name):
    return not name.startswith("_")


def stubbed(node):
    """Names in a class of the stub."""
    for item in node.body:
        if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield item.name
        elif isinstance(item, ast.AnnAssign):
            yield item.target.id


def test_the_stub_has_every_class_and_function():
    found = {name: value for name, value in vars(_core).items() if getattr(value, "__module__", "") == "ringbuf._core"}
    classes = {name for name, value in found.items() if inspect.isclass(value)}
    assert {*filter(is_public, classes)} == {*CLASSES}
    assert {*filter(is_public, found.keys() - classes)} == FUNCTIONS


@pytest.mark.parametrize("name", CLASSES)
def test_the_stub_has_every_public_member_and_no_other(name):
    cls = getattr(_core, name)
    assert {*filter(is_public, stubbed(CLASSES[name]))} == {*filter(is_public, vars(cls))}
    # The buffer protocol has a name in Python from 3.12 on.
    assert [member for member in stubbed(CLASSES[name]) if member != "__buffer__" and not hasattr(cls, member)] == []


@pytest.mark.parametrize("name", CLASSES)
def test_properties_of_the_stub_are_no_methods(name):
    cls = getattr(_core, name)
    for item in CLASSES[name].body:
        if isinstance(item, ast.FunctionDef) and is_public(item.name):
            is_property = any(getattr(decorator, "id", "") == "property" for decorator in item.decorator_list)
            assert is_property == (not callable(getattr(cls, item.name))), item.name


def test_the_signature_of_channel_is_that_in_its_documentation():
    (init,) = (item for item in CLASSES["Channel"].body if getattr(item, "name", "") == "__init__")
    (text,) = (line for line in _core.Channel.__doc__.splitlines() if line.startswith("Channel(name, *,"))
    documented = ast.parse(f"def {text}: pass").body[0].args
    assert [arg.arg for arg in documented.kwonlyargs] == [arg.arg for arg in init.args.kwonlyargs]
    pairs = zip(documented.kw_defaults, init.args.kw_defaults, strict=True)
    assert [(ast.dump(ours), ast.dump(theirs)) for ours, theirs in pairs if ast.dump(ours) != ast.dump(theirs)] == []
