"""The command line: `valetkey run, env, check, keys, flows, usage, purge, demo, simulate`."""

from . import asking, checking, demo, exports, keyring, running, simulating
from .app import app, main

__all__ = ["app", "asking", "checking", "demo", "exports", "keyring", "main", "running", "simulating"]
