"""Errors are sentences a person can act on."""

import pickle

import pytest

import explorer as ex


def test_an_unknown_name_suggests_the_nearest_ones():
    error = ex.UnknownNameError("task", "mnits", ["mnist", "letters", "emoji"])
    assert str(error) == "There is no task 'mnits'. Did you mean 'mnist'?"
    assert error.nearest == ["mnist"]


def test_a_name_like_no_other_lists_the_choices():
    error = ex.UnknownNameError("task", "zzz", ["mnist", "letters"])
    assert str(error) == "There is no task 'zzz'. Choose among 'mnist', 'letters'."


def test_without_any_choice_it_says_so():
    assert "None is available" in str(ex.UnknownNameError("model", "glyphs", []))


def test_an_unknown_name_is_also_a_key_error_and_survives_pickling():
    error = ex.UnknownNameError("task", "MNIST ", ["mnist"])
    assert isinstance(error, KeyError)
    assert isinstance(error, ex.ExplorerError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize("name", [n for n in ex.__all__ if n.endswith("Error")])
def test_every_error_is_an_explorer_error(name):
    assert issubclass(getattr(ex, name), ex.ExplorerError)
