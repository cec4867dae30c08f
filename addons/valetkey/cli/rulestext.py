"""The rules.yaml that `valetkey init` writes: short, working, and commented where a newcomer would look for more."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..model import Address

_HEAD = """\
#
# The rules of this gateway, written by `valetkey init` and yours from now on. A saved change takes effect at once (of the
# doors: at the next start); `valetkey check` says what is wrong with it, by line.
version: 1

gateway:
  proxy: {proxy:<25} # for HTTPS_PROXY
  api: {api:<27} # as base URL
  # foreign_keys: reject           # refuse a call that shows a key which is no dummy; else that key is replaced
  # egress: deny                   # refuse hosts that are no provider; else they are passed on, never decrypted
  # retention: 90 days             # delete older receipts; else they are kept

# References to keys, never keys. A provider that is not named here is used as well, when a variable of its name is set
# (GROQ_API_KEY, also GROQ_API_KEY_2, …, also with GATEWAY_ in front), in the gateway's environment or in `.env` beside this file.
"""
_POOL = "# Pool only keys that you may use that way: providers' terms commonly forbid several accounts that multiply a quota.\n"
_NO_PROVIDERS = """\
# providers:
#   openai:
#     keys: [env:OPENAI_API_KEY]
"""
_TAIL = """
# The first route that matches decides; without one a call goes to the provider that it was made for.
# routes:
#   - match: {model: "o1-*"}
#     deny: too expensive here
#   - match: {model: claude-sonnet-4-5}
#     to: [anthropic/claude-sonnet-4-5, openrouter/anthropic/claude-sonnet-4.5]     # the next one when the first cannot

# Agents are believed the name that they give (sk-dummy-alice); one with a key of its own has to show it: `valetkey agents add`
# agents:
#   - {name: alice, models: ["claude-*", "gpt-*"]}
"""


def compose(
    keys: Mapping[str, Sequence[str]], keyless: Sequence[str], proxy: Address, api: Address, schema: Path | None = None
) -> str:
    """The text. `keys`: provider -> references; `keyless`: local servers; `schema`: for editors, where it is at hand."""
    editors = f"# yaml-language-server: $schema={schema}\n" if schema else ""
    pools = _POOL if any(len(references) > 1 for references in keys.values()) else ""
    return editors + _HEAD.format(proxy=str(proxy), api=str(api)) + pools + _providers(keys, keyless) + _TAIL


def _providers(keys: Mapping[str, Sequence[str]], keyless: Sequence[str]) -> str:
    lines = [*_entries(keys), *(f"  {name}:\n    keys: none\n" for name in keyless)]
    return "providers:\n" + "".join(lines) if lines else _NO_PROVIDERS


def _entries(keys: Mapping[str, Sequence[str]]) -> Iterator[str]:
    for name, references in keys.items():
        yield f"  {name}:\n    keys: [{', '.join(references)}]\n"
        yield '    # models: {deny: ["*-preview*"]}\n'
        if len(references) > 1:
            yield "    # rotation: sequential        # balanced unless written: docs/pools.md\n"
