"""Newer prices, kept beside the ledger: written whole or not at all, and checked each time they are read."""

from __future__ import annotations

import json
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..errors import LedgerError
from ..policy import pricelist
from ..policy.pricelist import PriceList
from .state import state_path

LIMIT = 16 * 1024 * 1024
"""Bytes; the published list has less than one million."""
_SUFFIX = ".state.db"


@dataclass(frozen=True, slots=True)
class KeptPrices:
    """A list of prices with its origin. `fetched` in Unix seconds."""

    prices: PriceList
    source: str
    fetched: float


def prices_path(uri: str, folder: Path) -> Path:
    """Where newer prices are kept: beside the ledger of a resolved `uri`, and named after it."""
    state = state_path(uri, folder)
    return state.with_name(f"{state.name.removesuffix(_SUFFIX)}.prices.json")


def read_prices(path: Path) -> KeptPrices | None:
    """The prices that are kept; None when there are none. Raises LedgerError for a file that cannot be used."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from None
    # A reload of the rules, which most often leaves prices alone, does not read them anew.
    return _read(path, status.st_mtime_ns, status.st_size, status.st_ino)


@lru_cache(maxsize=1)
def _read(path: Path, *_: int) -> KeptPrices:
    try:
        with path.open("rb") as file:
            data = file.read(LIMIT + 1)
        if len(data) > LIMIT:
            raise _unusable(path, f"it is larger than {LIMIT} bytes")
        document = json.loads(data)
        source, fetched = document["source"], float(document["fetched"])
        return KeptPrices(pricelist.parse(document["providers"]), str(source), fetched)
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from None
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise _unusable(path, str(error) if isinstance(error, ValueError) else "it is no list of prices") from None


def write_prices(path: Path, providers: list[dict[str, Any]], source: str, now: float) -> None:
    """Keep a list, for its owner's eyes only, in place of the one before. Raises LedgerError; then nothing has changed."""
    data = json.dumps({"source": source, "fetched": now, "providers": providers}, separators=(",", ":")).encode()
    try:
        if not path.parent.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # mode 600
    except OSError as error:
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        with suppress(OSError):
            Path(name).unlink()
        raise LedgerError(f"{path} cannot be written: {error.strerror}") from None


def _unusable(path: Path, why: str) -> LedgerError:
    why = "".join(letter if letter.isprintable() else "?" for letter in why)  # names of a list that somebody else made
    return LedgerError(f"{path} cannot be used: {why}; the built-in prices hold (valetkey prices update fetches new ones)")
