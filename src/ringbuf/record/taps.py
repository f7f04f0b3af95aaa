"""Methods of the program's classes that are listened to, and let go again."""

from .._core import Tap, untapped

__all__ = ["tapped"]


def tapped(owner, name: str, before, after=None):
    """Put a `Tap` into a class, for one of its methods.

    Returns
    -------
    callable
        Takes it out, if it is still what stands there.
    """
    tap = Tap(getattr(owner, name), before, after)
    had = name in vars(owner)
    setattr(owner, name, tap)

    def undo() -> None:
        if vars(owner).get(name) is tap:
            if had:
                setattr(owner, name, untapped(tap))
            else:
                delattr(owner, name)

    return undo
