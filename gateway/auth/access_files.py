"""The files that say who may reach the gateway, all at once: what `gateway check` reads of them."""

from pathlib import Path

from gateway.auth.tls import Tls
from gateway.settings.gateway import GatewaySettings
from gateway.settings.keys import load_keys


def check_access(settings: GatewaySettings) -> None:
    """Read the keys and certificates; raises SettingsError."""
    if settings.auth.keys:
        load_keys(Path(settings.auth.keys))
    for tls in (settings.server.tls, settings.control.tls):
        if tls:
            Tls(tls)
