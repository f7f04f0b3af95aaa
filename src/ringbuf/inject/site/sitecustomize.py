"""Imported by Python at its start, where `ringbuf record` has put this folder on PYTHONPATH."""

import os
import sys

__name__ = "ringbuf.inject.site"  # not a part of the program, nor recorded as one


def _step_aside():
    """Leave things as they would be without this folder, and run the sitecustomize that there may be."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [folder for folder in sys.path if os.path.abspath(folder) != here]
    ours = sys.modules.pop("sitecustomize")
    try:
        import sitecustomize  # type: ignore[import-not-found] # noqa: F401
    except ModuleNotFoundError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        sys.modules.setdefault("sitecustomize", ours)


try:
    from ringbuf import inject
except ImportError:
    pass  # a Python that has no ringbuf
else:
    inject.start()
_step_aside()
