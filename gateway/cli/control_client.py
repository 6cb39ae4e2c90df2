"""How the commands reach the control plane of the running gateway, and what it answers them."""

import contextlib
import os
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from gateway.cli.refusal import AccessDenied, CommandError
from gateway.settings.gateway import ControlSettings, ServerSettings, TlsSettings
from gateway.settings.load import load_gateway

WITHIN_S: Final = (
    120.0  # an edit is answered once every worker serves it; a stop in a fleet may take 1.3 leases of 60 s
)
LOAD_WITHIN_S: Final = 600.0  # of a gateway whose models.load_timeout is not known
KEY_VARIABLE: Final = "GATEWAY_API_KEY"  # not an option: every user of the machine can read a command's options
ANY_ADDRESS: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class ControlAddress:
    """Where the control plane is: at `url`, or else where the file `config` says."""

    config: Path
    url: str | None = None


def call_control(control: ControlAddress, method: str, path: str, body: Any = None) -> Any:
    """What the control plane answers; refuses with its reason. The key, where keys are on, is in $GATEWAY_API_KEY.

    Raises CommandError; AccessDenied if the key does not suffice.
    """
    return _answer(control, method, path, WITHIN_S, json=body)


def send_to_control(control: ControlAddress, path: str, **request: Any) -> Any:
    """What the control plane answers to a version that is sent to it, with the `request` arguments of httpx; refuses
    with its reason. It is tried twice, which may take `models.load_timeout` for each version of it.
    """
    load_timeout_s = LOAD_WITHIN_S if control.url else load_gateway(control.config).models.load_timeout
    return _answer(control, "POST", path, WITHIN_S + 4 * load_timeout_s, **request)


def _answer(control: ControlAddress, method: str, path: str, timeout_s: float, **request: Any) -> Any:
    with control_client(control) as client, told_of_failures(client):
        answer = client.request(method, path, timeout=timeout_s, **request)
        raise_refusal(answer)
        return answer.json()


@contextlib.contextmanager
def told_of_failures(client: httpx.Client) -> Iterator[None]:
    """Raises CommandError where the control plane cannot be reached, or is none."""
    try:
        yield
    except httpx.TransportError as error:
        raise CommandError(f"no gateway answers at {client.base_url} ({error}); is `gateway serve` running?") from None
    except (ValueError, httpx.DecodingError):
        raise CommandError(f"the server at {client.base_url} is not a gateway") from None


def raise_refusal(answer: httpx.Response) -> None:
    """Raise CommandError with the reason that the control plane gives, AccessDenied if the key does not suffice; and
    ValueError if it is none that answers so.
    """
    if answer.status_code == 200:
        return
    document = answer.json()
    if not isinstance(document, dict) or not isinstance(error := document.get("error"), str):
        raise ValueError
    if answer.status_code == 401 and "authorization" not in answer.request.headers:
        raise AccessDenied(f"{error} (the commands read the key from ${KEY_VARIABLE})")
    raise (AccessDenied if answer.status_code in (401, 403) else CommandError)(error)


def control_client(control: ControlAddress, program: str = "cli") -> httpx.Client:
    """Return a client of the control plane; decisions say that they came by `program`. The key, where keys are on, is
    in $GATEWAY_API_KEY. Raises CommandError.
    """
    key = os.environ.get(KEY_VARIABLE)
    verify: ssl.SSLContext | bool = True
    if control.url is None:
        plane = load_gateway(control.config).control
        url = plane_url(plane)
        if plane.tls:
            verify = with_certificate_only(plane.tls, "control")
    else:
        url = checked_url(control.url, "control plane", "https://gateway:8002")
        verify = system_trust()
    return httpx.Client(
        base_url=url,
        headers={"x-gateway-client": program} | ({"authorization": f"Bearer {key}"} if key else {}),
        verify=verify,
        trust_env=False,  # otherwise commands and the key would be sent to $HTTP_PROXY
    )


def system_trust() -> ssl.SSLContext:
    """What the system trusts, as $SSL_CERT_FILE may say; httpx alone would trust a list of its own."""
    return ssl.create_default_context()


def checked_url(text: str, plane: str, example: str) -> str:
    """Return `text`, what --url says, if it can be the address of the `plane`; raises CommandError that names it."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL()
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment:
        raise CommandError(
            f"--url: {text!r} is not the address of a {plane}; write for example {example},"
            f" and give the key in ${KEY_VARIABLE}"
        )
    return text


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
