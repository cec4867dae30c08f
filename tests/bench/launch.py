"""mitmdump with the providers' names leading to this machine, and nothing else: no addon more than `mitmdump` itself has."""

import importlib.util
from pathlib import Path

from mitmproxy.tools.main import mitmdump

_DIALLING = Path(__file__).resolve().parents[1] / "support" / "dialling.py"


def _dial() -> None:
    spec = importlib.util.spec_from_file_location("valetkey_dialling", _DIALLING)
    assert spec is not None and spec.loader is not None
    spec.loader.exec_module(importlib.util.module_from_spec(spec))


if __name__ == "__main__":
    _dial()
    mitmdump()
