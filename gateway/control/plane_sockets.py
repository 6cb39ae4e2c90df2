"""The sockets of the gateway's ports: the data plane's, which is only reserved here, the control plane's, and that of
metrics alone.
"""

import logging
import socket
from typing import Final

from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings, ServerSettings, TlsSettings
from gateway.web.sockets import listener

LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
log: Final = logging.getLogger("gateway.control")


def reserve_port(server: ServerSettings, *, shared: bool) -> socket.socket:
    """A socket that reserves the port for the workers: bound, never listening. `shared`: orphaned workers of a killed
    run may still listen on it. Raises SettingsError if the port is taken.
    """
    try:
        if not shared and server.port:
            probe = socket.socket(socket.AF_INET6 if ":" in server.host else socket.AF_INET, socket.SOCK_STREAM)
            with probe:  # SO_REUSEPORT would let two gateways share a port in silence
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((server.host, server.port))
        return listener(server.host, server.port)
    except OSError as error:
        reason = f"server: cannot listen on {server.host}:{server.port}: {error.strerror}; choose another host or port"
        raise SettingsError("gateway.yaml", [reason]) from None


def control_socket(settings: GatewaySettings) -> socket.socket:
    """The control plane's socket, bound. Raises SettingsError if the port is taken, or open to others without keys."""
    host, port = settings.control.host, settings.control.port
    if host not in LOOPBACK and settings.auth.keys is None:
        problem = f"control.host: other machines can reach {host}; set auth.keys to require keys, or use 127.0.0.1"
        raise SettingsError("gateway.yaml", [problem])
    if host not in LOOPBACK and settings.control.tls is None:
        log.warning(
            "control.host: API keys are sent to %s unencrypted; set control.tls, or put a TLS proxy in front", host
        )
    return _bound("control", host, port)


def metrics_socket(settings: GatewaySettings) -> socket.socket | None:
    """The socket of control.metrics_port, bound; None if there is none. Raises SettingsError if the port is taken."""
    port = settings.control.metrics_port
    return None if port is None else _bound("control.metrics_port", settings.server.host, port)


def _bound(setting: str, host: str, port: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        reason = f"{setting}: cannot listen on {host}:{port}: {error.strerror}; choose another port"
        raise SettingsError("gateway.yaml", [reason]) from None
    return bound


def url_of(bound: socket.socket, tls: TlsSettings | None) -> str:
    """The address that a socket serves."""
    host, port = bound.getsockname()[:2]
    return f"{'https' if tls else 'http'}://" + (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
