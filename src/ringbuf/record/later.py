"""Something to do with a module once the program imports it: not before, for it may be the program's own."""

import sys

__all__ = ["arm", "expect_arming", "when_imported"]

_waiting = {}  # name of a module: what to do with it
_is_armed_from_outside = False


def when_imported(name: str, action) -> None:
    """Call ``action(module)`` now if there is such a module, or as soon as one has been imported."""
    if name in sys.modules:
        action(sys.modules[name])
        return
    _waiting[name] = action
    if not _is_armed_from_outside:
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
        _waiting.pop(missed)(sys.modules[missed])


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
                action = _waiting.pop(name, None)
                if action is not None and hasattr(spec.loader, "exec_module"):
                    spec.loader = _Loader(spec.loader, action)
                return spec
        return None


class _Loader:
    """A module's own loader, but that it calls `action` at the end."""

    def __init__(self, loader, action) -> None:
        self._loader, self._action = loader, action

    def __getattr__(self, name):
        return getattr(self._loader, name)

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module) -> None:
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._action(module)
