"""Changes to a JSON object in its bytes: what is not changed stays as it was written, white space included."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence

from .jsonscan import Members, Span, scan, scan_inner

_REMOVED = object()
_Path = tuple[str, ...]
_Edits = Mapping[_Path, object]


def splice(body: bytes, set: Mapping[str, object] | None = None, remove: Sequence[str] = ()) -> bytes:
    """Set and remove members by dotted path (`stream_options.include_usage`); every other byte stays.

    An existing value is replaced where it stands, a new member goes to the end of its object, and what is missing or is no
    object on the way is made one. A removed member takes exactly one comma along; a missing one is no error. Removals
    come after settings. Raises `JsonScanError` as `scan` does (also for a name twice in an object on the way), ValueError
    for a value that JSON cannot hold (NaN).
    """
    edits: dict[_Path, object] = {_path(path): value for path, value in (set or {}).items()}
    for path in remove:
        edits.pop(_path(path), None)
        edits[_path(path)] = _REMOVED
    if any(path[:length] in edits for path in edits for length in range(1, len(path))):
        # One path leads through another, so the order matters: one after the other.
        for single, value in edits.items():
            body = _edited(body, {single: value})
        return body
    return _edited(body, edits)


def _path(dotted: str) -> _Path:
    return tuple(dotted.split("."))


def _edited(body: bytes, edits: _Edits) -> bytes:
    members = scan(body)
    return body[: members.start] + _edit_object(body, members, edits) + body[members.end :]


def _edit_object(body: bytes, members: Members, edits: _Edits) -> bytes:
    """The bytes of one object with its edits applied; `edits` are paths from this object on."""
    by_name: dict[str, dict[_Path, object]] = {}
    for (name, *rest), value in edits.items():
        by_name.setdefault(name, {})[tuple(rest)] = value
    removed = {name for name, inner in by_name.items() if inner.get(()) is _REMOVED}
    changes = [(start, end, b"") for start, end in _cuts(members, removed)]
    added = []
    for name, inner in by_name.items():
        span = members.get(name)
        new = _new_value(body, span, inner)
        if span and new is not None:
            changes.append((span.value_start, span.value_end, new))
        elif new is not None:
            added.append(json.dumps(name).encode() + b":" + new)
    if added:
        changes.append(_addition(members, removed, b",".join(added)))
    return _changed(body, members, changes)


def _new_value(body: bytes, span: Span | None, edits: _Edits) -> bytes | None:
    """The new bytes of a member's value; None where it has none to write (removed, or nothing in it to remove)."""
    if () in edits:
        value = edits[()]
        return None if value is _REMOVED else json.dumps(value, separators=(",", ":"), allow_nan=False).encode()
    if span and (inner := scan_inner(body, span)):
        return _edit_object(body, inner, edits)
    if all(value is _REMOVED for value in edits.values()):
        return None
    return _edit_object(b"{}", Members(0, 2), edits)


def _cuts(members: Members, removed: Collection[str]) -> Iterator[tuple[int, int]]:
    """The byte ranges that take the `removed` members out, each with one comma."""
    spans = list(members.items())
    last_kept = max((i for i, (name, _) in enumerate(spans) if name not in removed), default=-1)
    for i, (name, span) in enumerate(spans[: max(last_kept, 0)]):
        if name in removed:
            yield span.key_start, spans[i + 1][1].key_start
    if tail := spans[last_kept + 1 :]:
        # No member follows that could lend its comma: cut from the end of the last one that stays.
        start = spans[last_kept][1].value_end if last_kept >= 0 else tail[0][1].key_start
        yield start, tail[-1][1].value_end


def _addition(members: Members, removed: Collection[str], new: bytes) -> tuple[int, int, bytes]:
    """Where and how new members are written: after the last member that stays."""
    kept = [span.value_end for name, span in members.items() if name not in removed]
    at = kept[-1] if kept else members.start + 1
    return at, at, (b"," if kept else b"") + new


def _changed(body: bytes, members: Members, changes: Sequence[tuple[int, int, bytes]]) -> bytes:
    out, at = [], members.start
    # An insertion (start == end) sorts before a cut that begins at the same place, after a replacement that ends there.
    for start, end, new in sorted(changes):
        out += [body[at:start], new]
        at = end
    return b"".join([*out, body[at : members.end]])
