"""`python -m valetkey`."""

from .cli import main

main()
