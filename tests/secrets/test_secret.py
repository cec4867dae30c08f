from __future__ import annotations

import copy
import json
import logging
import pickle

import pytest

from valetkey.secrets import Secret

VALUE = "sk-proj-REALrealREALrealREALreal0001"


@pytest.fixture
def secret():
    return Secret(VALUE)


def test_it_can_be_revealed(secret):
    assert secret.reveal() == VALUE


@pytest.mark.parametrize("show", [str, repr, "{}".format, "{!r}".format, "{:>40}".format, lambda s: f"{s}", lambda s: "%s" % s])  # noqa: UP031
def test_it_cannot_be_shown(secret, show):
    assert VALUE not in show(secret)


def test_it_cannot_be_shown_in_a_container(secret):
    assert VALUE not in str([secret, {"key": secret}])


def test_it_cannot_be_logged(secret, caplog):
    logging.getLogger("x").warning("key %s %r", secret, secret)
    assert VALUE not in caplog.text


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_cannot_be_pickled(secret, protocol):
    with pytest.raises(TypeError):
        pickle.dumps(secret, protocol)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_it_cannot_be_copied(secret, duplicate):
    with pytest.raises(TypeError):
        duplicate(secret)


def test_it_is_no_json(secret):
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_it_has_no_dictionary(secret):
    with pytest.raises(TypeError):
        vars(secret)


def test_it_is_not_hashed(secret):
    with pytest.raises(TypeError):
        hash(secret)


def test_equal_values_are_equal(secret):
    assert secret == Secret(VALUE)


def test_values_that_are_not_utf8_compare_as_well():
    """A variable with such bytes arrives with surrogates in it."""
    assert Secret("sk-\udcff") == Secret("sk-\udcff")


def test_other_values_are_not(secret):
    assert secret != Secret("other") and secret != VALUE


def test_a_traceback_does_not_show_it(secret):
    import traceback

    try:
        raise ValueError(secret)
    except ValueError as error:
        assert VALUE not in "".join(traceback.format_exception(error))
