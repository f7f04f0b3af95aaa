"""The exceptions: what is caught by what, and that they travel between processes."""

import inspect
import pickle

import pytest

import ringbuf
from ringbuf import errors

ALL = [getattr(errors, name) for name in errors.__all__]


def test_all_are_public_and_listed():
    defined = {
        value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__
    }
    assert defined == set(ALL)
    assert all(getattr(ringbuf, error.__name__) is error and error.__name__ in ringbuf.__all__ for error in ALL)


def test_errors_of_recording_and_reading_have_one_base():
    assert {error for error in ALL if not issubclass(error, ringbuf.RingbufError)} == {ringbuf.TraceError}
    assert issubclass(ringbuf.RegionError, ValueError) and issubclass(ringbuf.TraceError, ValueError)
    assert not any(issubclass(error, (OSError, StopIteration)) for error in ALL)


@pytest.mark.parametrize("error", ALL, ids=lambda error: error.__name__)
def test_they_pickle_and_say_what_they_mean(error):
    copied = pickle.loads(pickle.dumps(error("why")))
    assert type(copied) is error and str(copied) == "why"
    assert error.__doc__


def test_a_counter_that_an_error_names_exists():
    named = [word.strip("`,;.") for error in ALL for word in error.__doc__.split() if word.startswith("``records_")]
    assert len(named) >= 6
    assert all(hasattr(ringbuf.Stats(), name) for name in named)
