"""Something to do with a module once the program imports it: not before, for it may be the program's own."""

import sys

__all__ = ["arm", "expect_arming", "when_imported"]

_waiting = {}  # name of a module: all that is to be done with it
_is_armed_from_outside = False


def when_imported(name: str, action) -> None:
    """Call ``action(module)`` now if there is such a module, or as soon as one has been imported."""
    if name in sys.modules:
        action(sys.modules[name])
        return
    is_first = name not in _waiting
    _waiting.setdefault(name, []).append(action)
    if is_first and not _is_armed_from_outside:
        sys.meta_path.insert(0, _Finder(name))


def expect_arming() -> None:
    """From now on `arm` is called before each import, and the program sees no finder of ours but in between."""
    global _is_armed_from_outside
    _is_armed_from_outside = True


def arm(name: str) -> None:
    """A module is about to be imported."""
    if not _waiting:
        return
    if name in _waiting:
        sys.meta_path.insert(0, _Finder(name))
    for missed in [one for one in _waiting if one != name and one in sys.modules]:  # by import_module
        for action in _waiting.pop(missed, ()):
            action(sys.modules[missed])


class _Finder:
    """Finds one module, as others do, and is gone then."""

    def __init__(self, name: str) -> None:
        self._name = name

    def find_spec(self, name, path=None, target=None):
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                actions = _waiting.pop(name, ())  # now: while it runs, it is among the modules already
                if actions and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, actions)
                return spec
        return None


class _Loader:
    """A module's own loader, but that what waited for the module comes at the end."""

    def __init__(self, loader, actions) -> None:
        self._loader, self._actions = loader, actions

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        for action in self._actions:
            action(module)
