"""A secret that does not let itself be seen."""

from __future__ import annotations

import hmac
from typing import NoReturn, final

_HIDDEN = "<secret>"


@final
class Secret:
    """A real key. `reveal` is the only way to its value; it is called where a request goes on the wire, nowhere else.

    Printing, formatting, logging and interpolating give `<secret>`; pickling and copying raise TypeError.
    """

    __slots__ = ("__value",)

    def __init__(self, value: str) -> None:
        self.__value = value

    def reveal(self) -> str:
        """The value itself."""
        return self.__value

    def __repr__(self) -> str:
        return _HIDDEN

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return _HIDDEN

    def __len__(self) -> int:
        return len(self.__value)

    def __eq__(self, other: object) -> bool:
        """Compare in constant time."""
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value.encode("utf-8", "surrogatepass"), other.__value.encode("utf-8", "surrogatepass"))

    __hash__ = None  # type: ignore[assignment]

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __getstate__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __copy__(self) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")

    def __deepcopy__(self, memo: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied")
