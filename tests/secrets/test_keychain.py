from __future__ import annotations

import sys
import threading

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends import fail, null
from keyring.errors import KeyringLocked, PasswordDeleteError

from valetkey.errors import SecretError
from valetkey.secrets import Secret, keychain

KEY = "sk-proj-REALrealREALrealREALreal0001"
REF = "keyring:valetkey/openai/team"


class Store(KeyringBackend):
    """A store in memory."""

    priority = 1

    def __init__(self):
        super().__init__()
        self.held = {}
        self.trouble = None

    def get_password(self, service, username):
        if self.trouble:
            raise self.trouble
        return self.held.get((service, username))

    def set_password(self, service, username, password):
        self.held[service, username] = password

    def delete_password(self, service, username):
        if (service, username) not in self.held:
            raise PasswordDeleteError("no such entry")
        del self.held[service, username]


@pytest.fixture
def using():
    """Have the library use another store for a test."""
    before = keyring.get_keyring()
    yield lambda store: (keyring.set_keyring(store), store)[1]
    keyring.set_keyring(before)


@pytest.fixture
def store(using):
    return using(Store())


def problem(ask, *arguments):
    with pytest.raises(SecretError) as caught:
        ask(*arguments)
    return str(caught.value)


def test_a_key_is_read_by_service_and_name(store):
    store.held["valetkey", "openai/team"] = KEY
    assert keychain.read(REF, 5.0) == KEY


def test_an_entry_that_is_not_there_is_named(store):
    assert problem(keychain.read, REF, 5.0) == f"{REF}: the keyring of this user has no such entry; valetkey keys add stores one"


@pytest.mark.parametrize("reference", ["keyring:", "keyring:service", "keyring:/name", "keyring:service/"])
def test_a_reference_has_two_parts(reference):
    assert "keyring:SERVICE/NAME" in problem(keychain.parts, reference)


def test_a_store_that_is_locked_is_said_to_be(store):
    store.trouble = KeyringLocked(KEY)
    assert problem(keychain.read, REF, 5.0) == f"{REF}: the keyring is locked; unlock it"


@pytest.mark.parametrize("trouble", [keyring.errors.KeyringError(KEY), OSError(KEY), ValueError(KEY)])
def test_what_the_library_says_stays_out_of_messages(store, trouble):
    store.trouble = trouble
    assert KEY not in problem(keychain.read, REF, 5.0)


def test_a_system_without_a_store_is_an_error(using):
    using(fail.Keyring())
    assert "no keyring that can be used" in problem(keychain.read, REF, 5.0)


def test_a_missing_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert problem(keychain.read, REF, 5.0) == f"{REF}: the library keyring is not installed; pip install 'valetkey[keyring]'"


def test_a_store_that_waits_for_a_person_is_left_behind(store):
    gate = threading.Event()
    store.get_password = lambda *_: gate.wait(20) and None
    try:
        assert "gave no answer within 0.1 s" in problem(keychain.read, REF, 0.1)
    finally:
        gate.set()


def test_a_stored_key_can_be_read(store):
    keychain.store(REF, Secret(KEY))
    assert keychain.read(REF, 5.0) == KEY


@pytest.mark.parametrize("before", [True, False])
def test_it_is_told_whether_there_was_one(store, before):
    if before:
        store.held["valetkey", "openai/team"] = "old"
    assert keychain.store(REF, Secret(KEY)) is before


def test_a_store_that_keeps_nothing_is_noticed(using):
    using(null.Keyring())
    assert "does not keep it" in problem(keychain.store, REF, Secret(KEY))


def test_a_key_is_taken_out(store):
    store.held["valetkey", "openai/team"] = KEY
    assert keychain.delete(REF) and not store.held


def test_what_is_not_there_is_not_taken_out(store):
    assert not keychain.delete(REF)


class Odd(Exception):
    """What the library of a store raises, which knows nothing of `keyring`."""


def test_a_store_that_raises_its_own_errors_fails_without_its_words(store):
    store.trouble = Odd(KEY)
    with pytest.raises(SecretError, match=r"the keyring failed \(Odd\)") as caught:
        keychain.read(REF, 5.0)
    assert KEY not in str(caught.value)
