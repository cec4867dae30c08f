"""The command line: one module per group of commands; each adds its own to `app`."""

from . import (
    asking,
    auditing,
    checking,
    completing,
    demo,
    doctor,
    executing,
    exports,
    firststeps,
    importing,
    keyring,
    pricing,
    providers,
    registering,
    running,
    simulating,
    storing,
)
from .app import app, main

__all__ = [
    "app",
    "asking",
    "auditing",
    "checking",
    "completing",
    "demo",
    "doctor",
    "executing",
    "exports",
    "firststeps",
    "importing",
    "keyring",
    "main",
    "pricing",
    "providers",
    "registering",
    "running",
    "simulating",
    "storing",
]
