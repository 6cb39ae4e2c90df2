"""Checks all files that control access, that is keys and certificates, for `gateway check`."""

from pathlib import Path

from gateway.auth.tls import Tls
from gateway.settings.gateway import GatewaySettings
from gateway.settings.keys import load_keys


def check_access(settings: GatewaySettings) -> None:
    """Read the keys and certificates; raises SettingsError if one of the files is not usable."""
    if settings.auth.keys:
        load_keys(Path(settings.auth.keys))
    for tls in (settings.server.tls, settings.control.tls):
        if tls:
            Tls(tls)
