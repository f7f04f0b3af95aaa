"""src/ringbuf/_core.pyi says what the compiled module has: no checker can look into that."""

import ast
import inspect
import re
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


def parameters(node):
    """Names and defaults in a stub's signature, as `inspect` has them; without self."""
    args = node.args
    names = [arg.arg for arg in (*args.posonlyargs, *args.args) if arg.arg != "self"]
    defaults = [inspect.Parameter.empty] * (len(names) - len(args.defaults)) + [*map(ast.literal_eval, args.defaults)]
    keywords = [arg.arg for arg in args.kwonlyargs]
    named = [*zip(names, defaults, strict=True), *zip(keywords, map(ast.literal_eval, args.kw_defaults), strict=True)]
    if args.vararg:
        named.insert(len(names), (args.vararg.arg, inspect.Parameter.empty))
    return named + ([(args.kwarg.arg, inspect.Parameter.empty)] if args.kwarg else [])


def found_parameters(function):
    found = inspect.signature(function).parameters.values()
    return [(parameter.name, parameter.default) for parameter in found if parameter.name != "self"]


@pytest.mark.parametrize("name", CLASSES)
def test_methods_have_the_signatures_of_the_stub(name):
    for item in CLASSES[name].body:
        if (
            isinstance(item, ast.FunctionDef)
            and is_public(item.name)
            and callable(getattr(_core, name).__dict__[item.name])
        ):
            assert found_parameters(getattr(_core, name).__dict__[item.name]) == parameters(item), item.name


def test_the_documentation_of_channel_gives_its_signature():
    (init,) = (item for item in CLASSES["Channel"].body if getattr(item, "name", "") == "__init__")
    assert found_parameters(_core.Channel) == parameters(init)
    kinds = {parameter.kind for parameter in [*inspect.signature(_core.Channel).parameters.values()][1:]}
    assert kinds == {inspect.Parameter.KEYWORD_ONLY}
    for name, _ in found_parameters(_core.Channel):
        assert re.search(rf"^(\w+, )*{name}(, \w+)* : ", inspect.getdoc(_core.Channel), re.MULTILINE), name


@pytest.mark.parametrize("name", CLASSES)
def test_documentation_begins_with_a_sentence(name):
    """Not with a signature: Python knows those, and Cython gets some wrong."""
    cls = getattr(_core, name)
    for member in (cls, *(vars(cls)[one] for one in filter(is_public, stubbed(CLASSES[name])) if one in vars(cls))):
        assert not re.match(r"\s*[\w.]+\(", getattr(member, "__doc__", "") or ""), member
