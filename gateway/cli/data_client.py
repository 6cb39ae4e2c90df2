"""How the commands reach the data plane of the running gateway."""

import os

import httpx

from gateway.cli.control_client import KEY_VARIABLE, checked_url, plane_url, system_trust, with_certificate_only
from gateway.settings.gateway import GatewaySettings

TIMEOUT_S = 120.0  # a list of 10,000 entries waits for room in the records


def data_client(settings: GatewaySettings | None, url: str | None) -> httpx.Client:
    """Return a client of the data plane at `url`, or else of the one that `settings` describe.

    The key, where keys are on, is in $GATEWAY_API_KEY. Raises CommandError if `url` is no address.
    """
    key = os.environ.get(KEY_VARIABLE)
    tls = None
    if url is None:
        server = (settings or GatewaySettings()).server
        url, tls = plane_url(server), server.tls
    else:
        url = checked_url(url, "data plane", "https://gateway:8000")
    return httpx.Client(
        base_url=url,
        headers={"authorization": f"Bearer {key}"} if key else {},
        verify=with_certificate_only(tls, "server") if tls else system_trust(),
        timeout=TIMEOUT_S,
        trust_env=False,  # otherwise the key would be sent to $HTTP_PROXY
    )
