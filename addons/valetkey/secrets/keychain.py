"""`keyring:SERVICE/NAME`: a key in the system's own store (Keychain, Secret Service, Credential Locker).

The library `keyring` is an extra (`pip install 'valetkey[keyring]'`) and is loaded when it is first needed. Every call may block
while the system asks a person to unlock the store. https://keyring.readthedocs.io/en/latest/#api-reference
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from typing import Any

from ..errors import SecretError
from .secret import Secret

SERVICE = "valetkey"
"""Under which service `valetkey keys add` stores keys."""
PATIENCE = 60.0
"""Seconds in which a person can unlock the store, when a command writes to it."""
_MISSING = "the library keyring is not installed; pip install 'valetkey[keyring]'"


def parts(reference: str) -> tuple[str, str]:
    """Service and name. Raises SecretError for a reference without both."""
    service, _, name = reference.removeprefix("keyring:").partition("/")
    if not (service and name):
        raise SecretError("a key of the keyring is written keyring:SERVICE/NAME")
    return service, name


def read(reference: str, timeout: float) -> str:
    """The key, within `timeout` seconds. Raises SecretError, which names the reference and never the value."""
    service, name = parts(reference)
    found = _asked(reference, timeout, lambda keyring: keyring.get_password(service, name))
    if not found:
        raise SecretError(f"{reference}: the keyring of this user has no such entry; valetkey keys add stores one")
    return str(found)


def store(reference: str, value: Secret) -> bool:
    """Store a key, in place of one that was there; true if there was one. Raises SecretError when it cannot be kept."""
    service, name = parts(reference)

    def write(keyring: Any) -> bool:
        before = keyring.get_password(service, name)
        keyring.set_password(service, name, value.reveal())
        # A store that takes everything and keeps nothing exists (keyring.backends.null).
        if keyring.get_password(service, name) != value.reveal():
            raise SecretError(f"{reference}: the keyring took the key and does not keep it; see: keyring diagnose")
        return before is not None

    return bool(_asked(reference, PATIENCE, write))


def delete(reference: str) -> bool:
    """Take a key out; false if there was none. Raises SecretError when the store cannot be used."""
    service, name = parts(reference)

    def take_out(keyring: Any) -> bool:
        if keyring.get_password(service, name) is None:
            return False
        keyring.delete_password(service, name)
        return True

    return bool(_asked(reference, PATIENCE, take_out))


def _asked(reference: str, timeout: float, ask: Callable[[Any], object]) -> object:
    """What `ask` gives, in a thread of its own: a store that waits for a person cannot be interrupted, only left behind."""
    answers: list[object] = []
    problems: list[str] = []

    def work() -> None:
        try:
            answers.append(_guarded(ask))
        except SecretError as error:
            problems.append(str(error))

    thread = threading.Thread(target=work, name="valetkey keyring", daemon=True)
    thread.start()
    thread.join(timeout)
    if problems:
        raise SecretError(problems[0] if reference in problems[0] else f"{reference}: {problems[0]}")
    if not answers:
        late = f"gave no answer within {timeout:g} s; unlock it" if thread.is_alive() else "failed; see: keyring diagnose"
        raise SecretError(f"{reference}: the keyring {late}")
    return answers[0]


def _guarded(ask: Callable[[Any], object]) -> object:
    """What `ask` gives. The library's own words stay out of messages: a store could put what it was given into them."""
    try:
        keyring = importlib.import_module("keyring")
        errors = importlib.import_module("keyring.errors")
    except ImportError:
        raise SecretError(_MISSING) from None
    try:
        return ask(keyring)
    except errors.NoKeyringError:
        raise SecretError("this system has no keyring that can be used; name a file:PATH or cmd: instead") from None
    except errors.KeyringLocked:
        raise SecretError("the keyring is locked; unlock it") from None
    except SecretError:
        raise
    except Exception as error:  # noqa: BLE001 - stores are plugins, and raise what their own libraries do
        raise SecretError(f"the keyring failed ({type(error).__name__}); see: keyring diagnose") from None
