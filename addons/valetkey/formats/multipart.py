"""Read the fields that matter of a multipart form (RFC 7578) as it passes, in memory that does not grow with its files.

Servers differ in what they take for the beginning of a part and for the name of a field. Whatever two of them could read
differently is refused: the model that rules allow must be the model that is called.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from .jsonscan import JsonScanError

VALUE_LIMIT = 1024
"""Longest value of a field that is read, in bytes; real names of models stay below 100."""
_HEADERS_LIMIT = 8 * 1024
"""Longest headers of one part, in bytes."""
_PARTS_LIMIT = 1000
"""Most places in a form that look like the beginning of a part."""
_SLICE = 64 * 1024
"""Bytes of a whole form that are read at a time: it is not copied as a whole."""

_BOUNDARY = re.compile(r';\s*boundary=(?:"([^"\\]{1,70})"|([^\s;",]{1,70}))(?=\s*(?:;|\Z))', re.IGNORECASE)
_AFTER_MARK = re.compile(rb"(--)?+([ \t]{0,64}+)(\r\n|\n|\Z)?")
_AFTER = 72
"""Bytes behind a mark that tell whether it is one: no server takes more blanks there."""
_NAMED = rb"^content-disposition:[^\r\n]*;[ \t]*name"
_NAMES = re.compile(rb';[ \t]*name[ \t]*=[ \t]*(?:"([^"\r\n]*)"|([^\s;"]+)(?=[\s;]|\Z))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"^content-disposition:.*$", re.IGNORECASE | re.MULTILINE)
_IS_FILE = re.compile(rb";[ \t]*filename\*?[ \t]*=", re.IGNORECASE)
_IS_ENCODED = re.compile(_NAMED + rb'(?:[ \t]*\*|[ \t]*=[ \t]*"[^"\r\n]*\\)', re.IGNORECASE | re.MULTILINE)
"""A name that some servers decode and others do not: `name*=utf-8''model`, `name*0=mo`, or a backslash inside the quotes."""
_IS_TRANSFORMED = re.compile(
    rb"^content-transfer-encoding:[ \t]*(?!(?:7bit|8bit|binary)[ \t]*\r?$)"
    rb'|^content-type:.*charset[ \t]*=[ \t]*"?(?!utf-8|us-ascii)',
    re.IGNORECASE | re.MULTILINE,
)
"""A value that some servers decode (Go undoes quoted-printable) and others take as it is."""
_IS_PLAIN = re.compile(
    rb"content-disposition:[ \t]*form-data"
    rb"(?:[ \t]*;[ \t]*(?:[a-z-]+\*=[^\s\",;]++"
    rb'|[a-z-]+[ \t]*=[ \t]*(?:"(?:[^"\\]|\\.)*+"|[^\x00-\x20\x7f"\'(),;<>=\\]++)))*[ \t]*;?[ \t]*',
    re.IGNORECASE,
)
"""A part's own line as all servers read it. Some take off blanks before the colon, single quotes or angle brackets, or close a
quote that is open."""
_IS_JSON = re.compile(rb"[\s\xef\xbb\xbf]*+[\[{]")
_FOLD = re.compile(rb"\r\n[ \t]+")


@dataclass(frozen=True, slots=True)
class FormField:
    """A field that was read: its value, and where that stands in the form (byte offsets)."""

    value: bytes
    start: int
    end: int


class FormReader:
    """Fed with a form; `fields` then are those called one of `names` (lower case), each at most once.

    Every method raises `JsonScanError` for what two servers could read differently. `file_bytes` is the size of all files in
    it, `first` the offset of its first part, None while none came.
    """

    def __init__(self, content_type: str, names: Collection[str]) -> None:
        self.fields: dict[str, FormField] = {}
        self.file_bytes = 0
        self.first: int | None = None
        boundary = boundary_of(content_type)
        self._mark = b"--" + boundary if boundary else b""
        self._names = names
        # The form may begin with a part, as if after a line break.
        self._buffer, self._offset = bytearray(b"\r\n"), -2
        self._searched = 0
        self._parts = 0
        self._step = self._in_content if boundary else self._in_epilogue
        self._name: str | None = None
        """The field whose content comes, if it matters."""
        self._is_file = False
        self._start = 0
        self._value = bytearray()

    def feed(self, data: bytes | memoryview) -> None:
        """Take a piece."""
        self._buffer += data
        while self._step(final=False):
            pass

    def end(self) -> None:
        """The form is over; what was not closed is closed by that."""
        while self._step(final=True):
            pass
        if self.first is None and self._offset + len(self._buffer) > 0:
            raise JsonScanError("the form has no part; does its boundary agree with the content type?")

    def _in_epilogue(self, *, final: bool) -> bool:
        self._drop(len(self._buffer))
        return False

    def _in_headers(self, *, final: bool) -> bool:
        """The buffer begins with the line break that ends the line of the mark."""
        buffer = self._buffer
        blank = buffer.find(b"\r\n\r\n")
        mark = buffer.find(b"\r\n" + self._mark)
        if 0 <= mark < (blank if blank >= 0 else len(buffer)):
            raise JsonScanError("the form has a part without an end of its headers")
        if (blank if blank >= 0 else len(buffer)) > _HEADERS_LIMIT:
            raise JsonScanError(f"the form has a part whose headers are longer than {_HEADERS_LIMIT} bytes")
        if blank < 0:
            return False
        self._begin(bytes(buffer[2:blank]) if blank else b"")
        self._drop(blank + 2)
        self._start, self._step, self._searched = self._offset + 2, self._in_content, 0
        return True

    def _begin(self, headers: bytes) -> None:
        plain = headers.replace(b"\r\n", b"")
        if b"\n" in plain or b"\r" in plain or b"\0" in plain:
            raise JsonScanError("the form has a part with bare line breaks in its headers")
        headers = _FOLD.sub(b" ", headers)
        if _IS_ENCODED.search(headers):
            raise JsonScanError('the form has a field whose name is encoded; write it plainly, as in name="model"')
        own = [line.rstrip(b"\r") for line in _DISPOSITION.findall(headers)]
        if headers.lower().count(b"content-disposition") != len(own) or not all(map(_IS_PLAIN.fullmatch, own)) or len(own) > 1:
            raise JsonScanError('the form has an odd Content-Disposition; write it plainly, as in form-data; name="model"')
        lines = b"\n".join(own)
        named = {(quoted or bare).strip().lower().decode("latin-1") for quoted, bare in _NAMES.findall(lines)}
        self._name = next((name for name in named if name in self._names), None)
        self._is_file = _IS_FILE.search(lines) is not None
        if self._name in self.fields:
            raise JsonScanError(f"the form has the field {self._name} more than once")
        if self._name is not None and _IS_TRANSFORMED.search(headers):
            raise JsonScanError(f"the form's field {self._name} has an encoding of its own; send it as plain UTF-8")
        self._value.clear()

    def _in_content(self, *, final: bool) -> bool:
        """The buffer begins with the two bytes before what has not been looked at."""
        buffer, mark = self._buffer, self._mark
        at = buffer.find(mark, self._searched)
        if at < 0:
            if final:
                self._finish(self._offset + len(buffer))
                self._step = self._in_epilogue
            else:
                before = self._offset
                self._pass(len(buffer) - len(mark) - 1)
                self._searched = max(0, self._searched - (self._offset - before))
            return final
        after = at + len(mark)
        found = _AFTER_MARK.match(bytes(buffer[after : after + _AFTER]))
        assert found is not None
        if not final and len(buffer) - after - found.end() <= 1 and not found[3]:
            self._pass(at - 2)
            self._searched = 2
            return False
        self._parts += 1
        if self._parts > _PARTS_LIMIT:
            raise JsonScanError(f"the form has more than {_PARTS_LIMIT} parts")
        if _delimits(bytes(buffer[max(0, at - 2) : at]), found):
            self._cut(self._offset + at, self._offset + after + found.start(3), closes=bool(found[1]) or not found[3])
        else:
            self._searched = after
        return True

    def _cut(self, mark: int, line_end: int, *, closes: bool) -> None:
        """A part ends before the mark at this offset, and another begins unless it closes the form."""
        self._finish(mark - 2)
        self.first = mark if self.first is None else self.first
        self._drop(line_end - self._offset)
        self._step = self._in_epilogue if closes else self._in_headers

    def _finish(self, end: int) -> None:
        """The content of a part is complete; it ends at the offset `end`."""
        self._pass(end - self._offset)
        end = max(end, self._start)
        if self._is_file:
            self.file_bytes += end - self._start
        if self._name is not None:
            self.fields[self._name] = FormField(bytes(self._value[: end - self._start]), self._start, end)
        self._name, self._is_file = None, False

    def _pass(self, count: int) -> None:
        """Take so many bytes off the buffer as content."""
        if count <= 0:
            return
        if self._name is not None:
            skipped = max(0, self._start - self._offset)
            self._value += self._buffer[skipped:count]
            if len(self._value) > VALUE_LIMIT:
                raise JsonScanError(f"the form's field {self._name} is longer than {VALUE_LIMIT} bytes")
        self._drop(count)

    def _drop(self, count: int) -> None:
        del self._buffer[:count]
        self._offset += count


def boundary_of(content_type: str) -> bytes | None:
    """The boundary of a form; None for what has none. Raises `JsonScanError` where two servers could find different ones."""
    if "boundary" not in content_type.lower():
        return None
    found = _BOUNDARY.search(content_type)
    if found is None or content_type.lower().count("boundary") > 1 or any(odd in content_type for odd in ",<>'"):
        raise JsonScanError("the boundary of the form cannot be read; write it plainly, as in boundary=abc")
    return (found[1] or found[2]).encode("latin-1", "replace")


def _delimits(before: bytes, found: re.Match[bytes]) -> bool:
    """Whether a mark with `before` in front of it begins a part or closes the form."""
    closes, blanks, line_end = found.groups()
    if before[-1:] != b"\n":
        return False
    if before != b"\r\n" or line_end == b"\n":
        raise JsonScanError("the form has a boundary beside a bare line feed; lines of a form end in CRLF")
    if line_end is None and (closes or blanks):
        raise JsonScanError("the form has something behind a boundary")
    return line_end is not None


def read_form(body: bytes, content_type: str, names: Collection[str]) -> FormReader:
    """A whole form, read. Raises `JsonScanError` as `FormReader` does, and for a body that begins as JSON does: some servers
    do not look at the content type, and read the first JSON that comes."""
    reader = FormReader(content_type, names)
    if _IS_JSON.match(body):
        raise JsonScanError("the body begins as JSON does, and its content type is that of a form")
    view = memoryview(body)
    for at in range(0, len(body), _SLICE):
        reader.feed(view[at : at + _SLICE])
    reader.end()
    return reader


def with_field(body: bytes, content_type: str, form: FormReader, name: str, value: str) -> bytes:
    """The form with another value of one field: every other byte stays. A field that is missing becomes the first part."""
    fields: Mapping[str, FormField] = form.fields
    if (field := fields.get(name)) is not None:
        return body[: field.start] + value.encode() + body[field.end :]
    boundary = boundary_of(content_type)
    if form.first is None or boundary is None:
        return body
    part = b'--%s\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (boundary, name.encode(), value.encode())
    return body[: form.first] + part + body[form.first :]
