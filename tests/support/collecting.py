"""Loaded into the gateway's process by tests only: counts the objects that nothing but the cyclic garbage collector would free.

At SIGUSR1 it collects, and writes a JSON object into the file that VALETKEY_TEST_CYCLES names: `round`, the number of the
signal, and `left`, how many objects of which type were found since the one before. In between nothing is collected.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
from collections import Counter
from pathlib import Path


class Collecting:
    """The mitmproxy addon."""

    def __init__(self) -> None:
        self.round = 0

    def running(self) -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, self.collect)

    def collect(self) -> None:
        gc.disable()
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        left = Counter(f"{type(each).__module__}.{type(each).__qualname__}" for each in gc.garbage)
        gc.set_debug(0)
        gc.garbage.clear()
        gc.collect()
        self.round += 1
        self.write(json.dumps({"round": self.round, "left": dict(left.most_common())}))

    def write(self, text: str) -> None:
        path = Path(os.environ["VALETKEY_TEST_CYCLES"])
        half = path.with_suffix(".half")
        half.write_text(text)
        half.replace(path)


addons = [Collecting()]
