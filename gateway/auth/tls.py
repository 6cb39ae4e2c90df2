"""TLS with certificate files that may be renewed while the gateway runs."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.auth.file_watch import FileWatcher
from gateway.errors import SettingsError
from gateway.settings.gateway import TlsSettings


class Tls:
    """A TLS context with a certificate and its key. After a renewal of the files, new connections get the new one.

    Raises SettingsError if the files are wrong at the start.
    """

    def __init__(self, settings: TlsSettings) -> None:
        self._settings = settings
        self.context = _context()
        self.watcher = FileWatcher([Path(settings.certificate), Path(settings.key)], self._load)

    def _load(self) -> None:
        for name in (self._settings.certificate, self._settings.key):
            if not Path(name).is_file():
                raise SettingsError(name, ["there is no such file"])
        try:
            self._load_into(_context())  # a pair that does not fit would leave the context in use without either
            self._load_into(self.context)
        except OSError as error:
            problem = f"not usable as a certificate with {self._settings.key} as its key, without a password: {error}"
            raise SettingsError(self._settings.certificate, [problem]) from None

    def _load_into(self, context: ssl.SSLContext) -> None:
        context.load_cert_chain(self._settings.certificate, self._settings.key, password=_no_password)


def ssl_context_factory(tls: Tls | None) -> Callable[[Any, Any], ssl.SSLContext] | None:
    """What uvicorn makes its TLS context by; None: it serves plain HTTP."""
    return (lambda _configuration, _default: tls.context) if tls else None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context


def _no_password() -> str:
    """Give no password: OpenSSL would otherwise ask at the terminal, and wait."""
    return ""
