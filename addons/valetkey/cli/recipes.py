"""What is known of each agent: which dummies it looks for, what it must not find, what cannot work. Data: recipes.yaml."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter

from ..errors import ConfigurationError

FILE = Path(__file__).with_name("recipes.yaml")
Name = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
"""Of a variable."""
Words = Annotated[tuple[str, ...], BeforeValidator(tuple)]


class Recipe(BaseModel):
    """One agent. `docs/recipes.md` says the same in sentences; a test compares them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    programs: Annotated[Words, Field(min_length=1)]
    """Names of its program, by which `valetkey exec` knows it."""
    keys: Annotated[tuple[Name, ...], BeforeValidator(tuple)] = ()
    """Variables that get the dummy; none: all those of the catalogue."""
    set: Mapping[Name, str] = {}
    """Variables beyond those that every agent gets."""
    unset: Annotated[tuple[Name, ...], BeforeValidator(tuple)] = ()
    """Variables that would make it use another credential or another way out."""
    trust: Name
    """The variable by which it learns of the CA."""
    works: Literal["yes", "partly", "no"]
    example: str
    """A command line for a first call."""
    see: str
    """What then can be seen in the receipts."""
    limits: Words = ()
    """What does not work, or needs a hand."""
    tested: str | None = None
    """Program and version that was run through the gateway; None: nobody has."""
    source: str
    """Where the facts are from."""


@cache
def recipes() -> Mapping[str, Recipe]:
    """All recipes by name. Raises pydantic.ValidationError for a file of ours that is wrong."""
    return TypeAdapter(dict[str, Recipe]).validate_python(yaml.safe_load(FILE.read_text()))


def named(name: str) -> Recipe:
    """The recipe with that name. Raises ConfigurationError."""
    if name not in recipes():
        raise ConfigurationError(f"--for {name}: there is no such recipe; there are {', '.join(recipes())}")
    return recipes()[name]


def of_program(program: str) -> Recipe | None:
    """The recipe for a program, by the last part of its path."""
    base = Path(program).name
    return next((recipe for recipe in recipes().values() if base in recipe.programs), None)
