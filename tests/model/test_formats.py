from __future__ import annotations

import pytest

from valetkey.model import Dialect, Format


@pytest.mark.parametrize("format", Format)
def test_every_format_has_a_dialect(format):
    assert format.dialect in Dialect


def test_a_format_is_its_name():
    assert f"{Format.OPENAI_CHAT}" == "openai_chat"


@pytest.mark.parametrize(
    ("format", "dialect"),
    [
        (Format.OPENAI_RESPONSES, Dialect.OPENAI),
        (Format.ANTHROPIC_COUNT_TOKENS, Dialect.ANTHROPIC),
        (Format.GEMINI_EMBED, Dialect.GEMINI),
        (Format.OLLAMA_GENERATE, Dialect.OLLAMA),
    ],
)
def test_a_format_is_of_its_family(format, dialect):
    assert format.dialect is dialect
