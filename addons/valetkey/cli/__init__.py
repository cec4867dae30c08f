"""The command line: `valetkey run, env, check, keys, flows, usage, purge, audit, agents, demo, simulate`."""

from . import asking, auditing, checking, demo, exports, keyring, registering, running, simulating
from .app import app, main

__all__ = ["app", "asking", "auditing", "checking", "demo", "exports", "keyring", "main", "registering", "running", "simulating"]
