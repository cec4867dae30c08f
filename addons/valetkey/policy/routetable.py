"""The first of many rules that holds, found at a cost that does not grow with their number.

Most globs have literal text that whatever they match must have too: all of it, its beginning, its end, or something within.
Each rule is filed under such a text, the one that the fewest rules share; a lookup goes to the files of the asked texts only,
and tests the few rules there in full. Files with many rules are divided again, by what else their rules say.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import takewhile

Conditions = Mapping[str, Sequence[str]]
"""Field and its globs: a rule holds when in every field one of the globs matches one of the asked texts."""
Asked = Mapping[str, Sequence[str]]
"""Field and its texts."""

_FEW = 4
"""So many rules are tested one by one: that costs no more than to divide them."""
_SPREAD = 4
"""A rule is filed again under at most so many texts, or files of rules with long lists would multiply."""
_GRAM = 4
"""Characters of a text within a glob that are looked up."""
_GLOB = re.compile(r"[*?[]")
_MARKS = re.compile(r"[*?\]]")

_Key = tuple[str, str, str]
"""Field, place (`=`, `^`, `$`, `~`: whole, beginning, end, within) and literal text."""
_Row = tuple[tuple[tuple[_Key, ...], ...], ...]
"""The keys of every glob of every field of a rule."""


class RouteTable:
    """Rules in order, by their conditions."""

    def __init__(self, rules: Iterable[Conditions]) -> None:
        rows = [_row(conditions) for conditions in rules]
        self._size = len(rows)
        self._file = _file(range(self._size), rows, frozenset())

    def first(self, asked: Asked, holds: Callable[[int], bool], below: int | None = None) -> int | None:
        """The number of the first rule (of those before `below`) of which `holds` is true.

        `holds` is asked, in no certain order, of rules that may hold: of the others a text that is needed has not been asked.
        """
        limit = self._size if below is None else below
        found = _first(self._file, asked, holds, limit)
        return found if found < limit else None


class Globs:
    """A list of globs in order."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple((pattern, _GLOB.search(pattern) is not None) for pattern in patterns)
        self._table = RouteTable({"": (pattern,)} for pattern, _ in self._patterns) if len(self._patterns) > _FEW else None

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def matches(self, texts: Sequence[str]) -> bool:
        """Whether any of the globs matches any of the texts."""
        return self.first(texts) is not None

    def first(self, texts: Sequence[str]) -> int | None:
        """The number of the first glob that matches any of the texts."""
        if self._table is not None:
            return self._table.first({"": texts}, lambda number: self._fits(number, texts))
        return next((number for number in range(len(self._patterns)) if self._fits(number, texts)), None)

    def _fits(self, number: int, texts: Sequence[str]) -> bool:
        pattern, is_glob = self._patterns[number]
        if is_glob:
            return any(fnmatchcase(text, pattern) for text in texts)
        return pattern in texts


class _Texts:
    """The files under the literal texts of one field."""

    __slots__ = ("_grams", "_heads", "_tails", "_wholes")

    def __init__(self, files: Mapping[_Key, _File]) -> None:
        self._wholes = _at("=", files)
        self._heads, self._tails = _by_length(_at("^", files)), _by_length(_at("$", files))
        self._grams = _at("~", files)

    def of(self, text: str) -> Iterator[_File]:
        """The files of the rules that `text` may match. The lengths of literal texts count here, not how many there are."""
        length = len(text)
        if (file := self._wholes.get(text)) is not None:
            yield file
        for size, files in self._heads:
            if size <= length and (file := files.get(text[:size])) is not None:
                yield file
        for size, files in self._tails:
            if size <= length and (file := files.get(text[length - size :])) is not None:
                yield file
        if self._grams:
            for gram in {text[at : at + _GRAM] for at in range(length - _GRAM + 1)}:
                if (file := self._grams.get(gram)) is not None:
                    yield file


class _Divided:
    """Rules under their texts, and in `rest` those that have none."""

    __slots__ = ("fields", "rest")

    def __init__(self, files: Mapping[_Key, _File], rest: tuple[int, ...]) -> None:
        fields: defaultdict[str, dict[_Key, _File]] = defaultdict(dict)
        for key, file in files.items():
            fields[key[0]][key] = file
        self.fields = {field: _Texts(found) for field, found in fields.items()}
        self.rest = rest


_File = _Divided | tuple[int, ...]
"""Numbers of rules, rising, as they are or divided."""


def _at(place: str, files: Mapping[_Key, _File]) -> dict[str, _File]:
    return {key[2]: file for key, file in files.items() if key[1] == place}


def _by_length(files: Mapping[str, _File]) -> tuple[tuple[int, dict[str, _File]], ...]:
    found: defaultdict[int, dict[str, _File]] = defaultdict(dict)
    for text, file in files.items():
        found[len(text)][text] = file
    return tuple(found.items())


def _first(file: _File, asked: Asked, holds: Callable[[int], bool], limit: int) -> int:
    """The first rule before `limit` that holds, else `limit`."""
    if isinstance(file, tuple):
        return next((number for number in takewhile(limit.__gt__, file) if holds(number)), limit)
    for field, texts in asked.items():
        found = file.fields.get(field)
        if found is not None:
            for text in texts:
                for inner in found.of(text):
                    limit = _first(inner, asked, holds, limit)
    return _first(file.rest, asked, holds, limit)


def _file(numbers: Sequence[int], rows: Sequence[_Row], used: frozenset[_Key]) -> _File:
    """Rules divided by their texts, other than `used`, as far as that tells them apart."""
    if len(numbers) <= _FEW:
        return tuple(numbers)
    choices = {number: _choices(rows[number], used) for number in numbers}
    crowd = Counter(key for choice in choices.values() for globs in choice for keys in globs for key in keys)
    filed: defaultdict[_Key, list[int]] = defaultdict(list)
    rest = []
    for number, choice in choices.items():
        keys = _best(choice, crowd)
        for key in keys:
            filed[key].append(number)
        if not keys:
            rest.append(number)
    return _Divided({key: _divided(key, found, numbers, rows, used) for key, found in filed.items()}, tuple(rest))


def _divided(key: _Key, found: list[int], numbers: Sequence[int], rows: Sequence[_Row], used: frozenset[_Key]) -> _File:
    # Rules that all share their rarest text are not told apart by any other.
    return tuple(found) if len(found) == len(numbers) else _file(found, rows, used | {key})


def _choices(row: _Row, used: frozenset[_Key]) -> list[list[list[_Key]]]:
    """Of every field that a rule can be filed under, the keys of each of its globs."""
    fields = row if not used else [globs for globs in row if len(globs) <= _SPREAD]
    left = [[[key for key in keys if key not in used] for keys in globs] for globs in fields]
    return [globs for globs in left if all(globs)]


def _best(choice: list[list[list[_Key]]], crowd: Counter[_Key]) -> set[_Key]:
    """The keys, one for each glob of a field, that the fewest rules share; none when every field has a glob without a text."""
    picked = [{min(keys, key=crowd.__getitem__) for keys in globs} for globs in choice]
    return min(picked, key=lambda keys: (max(crowd[key] for key in keys), len(keys)), default=set())


def _row(conditions: Conditions) -> _Row:
    return tuple(tuple(_keys(field, glob) for glob in globs) for field, globs in conditions.items())


def _keys(field: str, glob: str) -> tuple[_Key, ...]:
    """The literal texts of a glob."""
    mark = _GLOB.search(glob)
    if mark is None:
        return ((field, "=", glob),)
    head, tail = glob[: mark.start()], _MARKS.split(glob)[-1]
    keys = [(field, place, text) for place, text in (("^", head), ("$", tail)) if text]
    if "[" not in glob:  # what is inside of it is no text
        for run in _MARKS.split(glob)[1:-1]:
            keys += [(field, "~", run[at : at + _GRAM]) for at in range(len(run) - _GRAM + 1)]
    return tuple(dict.fromkeys(keys))
