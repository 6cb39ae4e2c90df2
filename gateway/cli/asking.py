"""Calls the API of the running gateway's control plane."""

import os
from pathlib import Path
from typing import Any, Final

import httpx

from gateway.cli.control_client import control_client
from gateway.cli.refusal import CommandError
from gateway.settings.load import load_gateway

TIMEOUT_S: Final = 60.0  # an edit is answered only once every worker serves it
KEY_VARIABLE: Final = "GATEWAY_API_KEY"  # not a command-line option, because all users of the machine can read those


def call_control(config: Path, method: str, path: str, body: Any = None) -> Any:
    """Send a request to the control plane and return its JSON; raises CommandError with the reason if it is refused.

    The API key, if the gateway requires one, is read from $GATEWAY_API_KEY.
    """
    key = os.environ.get(KEY_VARIABLE)
    with control_client(load_gateway(config), key) as client:
        try:
            answer = client.request(method, path, json=body, timeout=TIMEOUT_S)
            document = answer.json()
        except httpx.TransportError as error:
            raise CommandError(
                f"no gateway answers at {client.base_url} ({error}); is `gateway serve` running?"
            ) from None
        except ValueError:
            raise CommandError(f"the server at {client.base_url} is not a gateway") from None
    if answer.status_code == 401 and not key:
        raise CommandError(f"{document['error']} (the commands read the key from ${KEY_VARIABLE})")
    if answer.status_code != 200:
        raise CommandError(document["error"])
    return document
