"""How the commands reach the control plane of the running gateway, and what it answers them."""

import os
import ssl
from pathlib import Path
from typing import Any, Final

import httpx

from gateway.cli.refusal import AccessDenied, CommandError
from gateway.settings.gateway import ControlSettings, GatewaySettings, ServerSettings, TlsSettings
from gateway.settings.load import load_gateway

WITHIN_S: Final = (
    120.0  # an edit is answered once every worker serves it; a stop in a fleet may take 1.3 leases of 60 s
)
KEY_VARIABLE: Final = "GATEWAY_API_KEY"  # not an option: every user of the machine can read a command's options
ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


def call_control(config: Path, method: str, path: str, body: Any = None) -> Any:
    """What the control plane answers; refuses with its reason. The key, where keys are on, is in $GATEWAY_API_KEY.

    Raises CommandError; AccessDenied if the key does not suffice.
    """
    return _answer(load_gateway(config), method, path, WITHIN_S, json=body)


def send_to_control(config: Path, path: str, **request: Any) -> Any:
    """What the control plane answers to a version that is sent to it, with the `request` arguments of httpx; refuses
    with its reason. It is tried twice, which may take `models.load_timeout` for each version of it.
    """
    settings = load_gateway(config)
    return _answer(settings, "POST", path, WITHIN_S + 4 * settings.models.load_timeout, **request)


def _answer(settings: GatewaySettings, method: str, path: str, timeout_s: float, **request: Any) -> Any:
    key = os.environ.get(KEY_VARIABLE)
    with control_client(settings, key) as client:
        try:
            answer = client.request(method, path, timeout=timeout_s, **request)
            document = answer.json()
        except httpx.TransportError as error:
            raise CommandError(
                f"no gateway answers at {client.base_url} ({error}); is `gateway serve` running?"
            ) from None
        except ValueError:
            raise CommandError(f"the server at {client.base_url} is not a gateway") from None
    if answer.status_code == 401 and not key:
        raise AccessDenied(f"{document['error']} (the commands read the key from ${KEY_VARIABLE})")
    if answer.status_code in (401, 403):
        raise AccessDenied(document["error"])
    if answer.status_code != 200:
        raise CommandError(document["error"])
    return document


def control_client(settings: GatewaySettings, key: str | None) -> httpx.Client:
    """Return a client of the control plane that `settings` describe."""
    control = settings.control
    return httpx.Client(
        base_url=plane_url(control),
        headers={"x-gateway-client": "cli"} | ({"authorization": f"Bearer {key}"} if key else {}),
        verify=with_certificate_only(control.tls, "control") if control.tls else True,
        trust_env=False,  # otherwise commands and the key would be sent to $HTTP_PROXY
    )


def plane_url(plane: ControlSettings | ServerSettings) -> str:
    """Return where a client on this host reaches the plane."""
    host = ANY_ADDRESS.get(plane.host, plane.host)
    address = f"[{host}]:{plane.port}" if ":" in host else f"{host}:{plane.port}"
    return f"{'https' if plane.tls else 'http'}://{address}"


def with_certificate_only(tls: TlsSettings, plane: str) -> ssl.SSLContext:
    """Trust exactly the certificate that the gateway serves; its name need not be this machine's address.

    `plane`: the section of gateway.yaml that names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    try:
        own, found, _ = Path(tls.certificate).read_text().partition(_END)
        context.load_verify_locations(cadata=own[own.index(_BEGIN) :] + found)
    except (OSError, ValueError) as error:
        raise CommandError(f"{plane}.tls.certificate: {tls.certificate} cannot be used: {error}") from None
    return context
