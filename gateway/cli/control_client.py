"""Creates the HTTP client with which the commands reach the control plane."""

import ssl
from pathlib import Path
from typing import Final

import httpx

from gateway.cli.refusal import CommandError
from gateway.settings.gateway import GatewaySettings, TlsSettings

ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


def control_client(settings: GatewaySettings, key: str | None) -> httpx.Client:
    """Return a client of the control plane that `settings` describe."""
    control = settings.control
    host = ANY_ADDRESS.get(control.host, control.host)
    address = f"[{host}]:{control.port}" if ":" in host else f"{host}:{control.port}"
    return httpx.Client(
        base_url=f"{'https' if control.tls else 'http'}://{address}",
        headers={"authorization": f"Bearer {key}"} if key else {},
        verify=_with_certificate_only(control.tls) if control.tls else True,
        trust_env=False,  # otherwise commands and the key would be sent to $HTTP_PROXY
    )


def _with_certificate_only(tls: TlsSettings) -> ssl.SSLContext:
    """Trust exactly the certificate that the gateway serves; its name need not be this machine's address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        own, found, _ = Path(tls.certificate).read_text().partition(_END)
        context.load_verify_locations(cadata=own[own.index(_BEGIN) :] + found)
    except (OSError, ValueError) as error:
        raise CommandError(f"control.tls.certificate: {tls.certificate} cannot be used: {error}") from None
    return context
