from __future__ import annotations

import dataclasses

import pytest

from valetkey.model import Caller, Refusal, Target


@pytest.mark.parametrize(("target", "text"), [(Target("openai", "gpt-4o"), "openai/gpt-4o"), (Target("openai"), "openai")])
def test_a_target_reads_as_it_is_written(target, text):
    assert str(target) == text


def test_without_a_name_a_caller_is_default():
    assert Caller().agent == "default"


def test_a_refusal_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Refusal(403, "x", "y").status = 200
