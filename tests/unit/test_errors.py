"""The error tree: caught as ours, caught as the builtin, and readable."""

from __future__ import annotations

import inspect
import pickle

import pytest

from mlfn import errors

TREE = [
    item
    for _, item in inspect.getmembers(errors, inspect.isclass)
    if issubclass(item, Exception) and item.__module__ == errors.__name__
]


@pytest.mark.parametrize("error", TREE)
def test_every_error_is_drawn_in_the_tree(error):
    assert issubclass(error, errors.MlfnError)
    assert error.__name__ in errors.__doc__


@pytest.mark.parametrize("error", TREE)
def test_a_message_reads_as_it_was_written(error):
    assert str(error("no such run: '3f2a91'")) == "no such run: '3f2a91'"


@pytest.mark.parametrize("error", TREE)
def test_an_error_without_message_has_a_default(error):
    assert str(error()) == error.__doc__


@pytest.mark.parametrize("error", TREE)
def test_an_error_survives_pickling(error):
    again = pickle.loads(pickle.dumps(error("gone")))

    assert type(again) is error
    assert str(again) == "gone"


def test_errors_survive_where_dask_is_imported():
    import distributed  # noqa: F401 - it changes how exceptions are pickled

    for error in TREE:
        assert str(pickle.loads(pickle.dumps(error("gone")))) == "gone"


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.OptionError, ValueError),
        (errors.ParameterError, TypeError),
        (errors.NotFoundError, KeyError),
        (errors.InputNotFoundError, FileNotFoundError),
        (errors.RunTimeoutError, TimeoutError),
        (errors.OutOfMemoryError, MemoryError),
        (errors.MissingExtraError, ImportError),
        (errors.ResultTimeoutError, TimeoutError),
    ],
)
def test_a_caller_can_catch_the_builtin(error, builtin):
    with pytest.raises(builtin):
        raise error("as the builtin")


def test_a_near_miss_is_suggested():
    assert errors.nearest("replica", {"replicas", "slots"}) == "did you mean 'replicas'? Allowed: replicas, slots."


def test_a_far_miss_lists_what_is_allowed():
    assert errors.nearest("xyz", {"slots", "replicas"}) == "Allowed: replicas, slots."


def test_nothing_allowed_is_said():
    assert errors.nearest("xyz", ()) == "Allowed: none."
