"""Bytes of TLS connections in and out, without an exception at the end of each.

mitmproxy asks pyOpenSSL for more until it raises that there is none, for all that comes and for all that goes, with a new
buffer of 64 kB each time. Here OpenSSL's own answer is looked at; whatever it is but bytes, or that there are none, is left to
pyOpenSSL to say. These are twins of two methods of `TLSLayer`, see `shortcuts.py`.
"""

from __future__ import annotations

from logging import DEBUG, WARNING
from types import CodeType
from typing import Any

from mitmproxy import connection
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.tls import TLSLayer
from OpenSSL import SSL

SIZE = 65_535
"""Bytes that are asked for at once, as in mitmproxy."""
_lib: Any = SSL._lib  # type: ignore[attr-defined]
_ffi: Any = SSL._ffi  # type: ignore[attr-defined]
_BUFFER = _ffi.new("char[]", SIZE)


def receive_data(self: TLSLayer, data: bytes) -> layer.CommandGenerator[None]:
    """As in mitmproxy."""
    made: Any = self.tls
    if data:
        made.bio_write(data)
    plaintext, error = _read(made)
    close = isinstance(error, SSL.ZeroReturnError)
    if error is not None and not close:
        yield commands.Log(f"TLS Error: {error}", WARNING)
    yield from self.tls_interact()
    if plaintext:
        yield from self.event_to_child(events.DataReceived(self.conn, plaintext))
    if close:
        self.conn.state &= ~connection.ConnectionState.CAN_READ
        if self.debug:
            yield commands.Log(f"{self.debug}[tls] close_notify {self.conn}", DEBUG)
        yield from self.event_to_child(events.ConnectionClosed(self.conn))


def tls_interact(self: TLSLayer) -> layer.CommandGenerator[None]:
    """As in mitmproxy."""
    made: Any = self.tls
    pipe = made._from_ssl
    if pipe is None:
        made.bio_read(SIZE)  # says what is wrong
    while (size := _lib.BIO_read(pipe, _BUFFER, SIZE)) > 0:
        yield commands.SendData(self.conn, _ffi.buffer(_BUFFER, size)[:])
    if not (_lib.BIO_should_retry(pipe) and _lib.BIO_should_read(pipe)):
        made._handle_bio_errors(pipe, size)


def _read(made: Any) -> tuple[bytes, SSL.Error | None]:
    """All that can be decrypted by now, and what ended it other than that there is no more."""
    pieces, ssl = [], made._ssl
    while (size := _lib.SSL_read(ssl, _BUFFER, SIZE)) > 0:
        pieces.append(_ffi.buffer(_BUFFER, size)[:])
    try:
        if _lib.SSL_get_error(ssl, size) != _lib.SSL_ERROR_WANT_READ or _has_problems(made._context):
            made._raise_ssl_error(ssl, size)
    except SSL.WantReadError:
        pass
    except SSL.Error as error:
        return b"".join(pieces), error
    return b"".join(pieces), None


def _has_problems(context: Any) -> bool:
    """Whether something was raised in a callback."""
    verify, alpn, ocsp = context._verify_helper, context._alpn_select_helper, context._ocsp_helper
    return bool((verify and verify._problems) or (alpn and alpn._problems) or (ocsp and ocsp._problems))


_RELIED_UPON = {
    "recv": "_no_zero_allocator socket MSG_PEEK _lib SSL_peek _ssl SSL_read _raise_ssl_error _ffi buffer",
    "bio_read": "_from_ssl TypeError isinstance int _no_zero_allocator _lib BIO_read _handle_bio_errors _ffi buffer",
    "_raise_ssl_error": (
        "_context _verify_helper raise_if_problem _alpn_select_helper _ocsp_helper _lib SSL_get_error SSL_ERROR_WANT_READ "
        "WantReadError SSL_ERROR_WANT_WRITE WantWriteError SSL_ERROR_ZERO_RETURN ZeroReturnError SSL_ERROR_WANT_X509_LOOKUP "
        "WantX509LookupError SSL_ERROR_SYSCALL platform _ffi getwinerror errno ERR_peek_error SysCallError errorcode get "
        "_raise_current_error SSL_ERROR_SSL ERR_GET_REASON Cryptography_HAS_UNEXPECTED_EOF_WHILE_READING _openssl_assert "
        "SSL_R_UNEXPECTED_EOF_WHILE_READING ERR_clear_error SSL_ERROR_NONE"
    ),
    "_handle_bio_errors": (
        "_lib BIO_should_retry BIO_should_read WantReadError BIO_should_write WantWriteError BIO_should_io_special ValueError "
        "_raise_current_error"
    ),
}
"""Methods of pyOpenSSL's connections that this module goes around, and the names they use."""


def differences() -> str | None:
    """What is not as this module expects it in pyOpenSSL, or None."""
    for name, used in _RELIED_UPON.items():
        code = getattr(getattr(SSL.Connection, name, None), "__code__", None)
        if not isinstance(code, CodeType) or set(code.co_names) != set(used.split()):
            return f"OpenSSL.SSL.Connection.{name} is not what it was in pyOpenSSL 26.2"
    return None
