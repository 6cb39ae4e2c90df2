"""How the deployments plugin reaches a gateway: the addresses in MLflow's target URI, and what the gateway answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import httpx
from mlflow.exceptions import MlflowException
from mlflow.protos import databricks_pb2 as codes

from gateway.cli.control_client import KEY_VARIABLE, LOAD_WITHIN_S, WITHIN_S, ControlAddress, control_client
from gateway.cli.data_client import data_client
from gateway.settings.gateway import ControlSettings, ServerSettings

TARGET: Final = "canary-gateway"
FORM: Final = f"{TARGET}:http://HOST:8002, with ?predict=http://HOST:8000 if predictions are served elsewhere"
UPLOAD_S: Final = WITHIN_S + 4 * LOAD_WITHIN_S  # as for `gateway propose`
_CODES: Final = {
    400: codes.INVALID_PARAMETER_VALUE,
    401: codes.UNAUTHENTICATED,
    403: codes.PERMISSION_DENIED,
    404: codes.RESOURCE_DOES_NOT_EXIST,
    409: codes.RESOURCE_CONFLICT,
    413: codes.INVALID_PARAMETER_VALUE,
    429: codes.REQUEST_LIMIT_EXCEEDED,
    503: codes.TEMPORARILY_UNAVAILABLE,
}


def invalid(message: str) -> MlflowException:
    """The error for an argument that is wrong."""
    return MlflowException(message, error_code=codes.INVALID_PARAMETER_VALUE)


class Refused(MlflowException):  # type: ignore[misc]
    """The gateway refuses; `status`: HTTP's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, error_code=_CODES.get(status, codes.INTERNAL_ERROR))
        self.status = status


@dataclass(frozen=True, slots=True)
class Planes:
    """The addresses of a gateway's control plane and data plane."""

    control: str
    data: str

    def command(self, method: str, path: str, body: Any = None) -> Any:
        """What the control plane answers. Raises MlflowException."""
        return _ask(self._control_client(), method, path, WITHIN_S, json=body)

    def upload(self, path: str, **request: Any) -> Any:
        """What the control plane answers to a version, sent with the `request` arguments of httpx. Raises
        MlflowException.
        """
        return _ask(self._control_client(), "POST", path, UPLOAD_S, **request)

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        """What the data plane answers. Raises MlflowException."""
        return _ask(data_client(None, self.data), method, path, WITHIN_S, content=body)

    def _control_client(self) -> httpx.Client:
        return control_client(ControlAddress(Path(), self.control), "mlflow")


def planes_of(target: str) -> Planes:
    """The addresses in a target URI; without any those of a gateway on this machine. Raises MlflowException."""
    address = target.removeprefix(TARGET).removeprefix(":")
    control, _, query = address.partition("?")
    control = _checked(control, target) if control else f"http://127.0.0.1:{ControlSettings().port}"
    try:
        named = dict(parse_qsl(query, keep_blank_values=True, strict_parsing=True)) if query else {}
    except ValueError:
        named = {"": ""}
    if named.keys() - {"predict"}:
        raise invalid(f"the target {target!r} has other parameters than `predict`; it has the form {FORM}")
    predict = named.get("predict")
    return Planes(control, _beside(control) if predict is None else _checked(predict, target))


def _checked(address: str, target: str) -> str:
    try:
        parts = urlsplit(address)
        wrong = parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0 or parts.fragment
    except ValueError:
        wrong = True
    if wrong:
        raise invalid(f"the target {target!r} names no gateway; it has the form {FORM}")
    if parts.username is not None:
        raise invalid(f"the target holds a password; set the gateway's key in ${KEY_VARIABLE} instead")
    return address.rstrip("/")


def _beside(control: str) -> str:
    """The data plane's address if only its port differs."""
    parts = urlsplit(control)
    host = f"[{parts.hostname}]" if ":" in str(parts.hostname) else parts.hostname
    return urlunsplit((parts.scheme, f"{host}:{ServerSettings().port}", "", "", ""))


def _ask(client: httpx.Client, method: str, path: str, timeout_s: float, **request: Any) -> Any:
    base = client.base_url
    try:
        with client:
            answer = client.request(method, path, timeout=timeout_s, **request)
    except httpx.TransportError as error:
        raise Refused(503, f"no gateway answers at {base} ({error}); the target has the form {FORM}") from None
    try:
        document = answer.json()
    except ValueError:
        document = None
    if answer.status_code == 200 and document is not None:
        return document
    if not isinstance(document, dict) or "error" not in document:
        raise Refused(answer.status_code, f"{base} answers {answer.status_code}, as no gateway does; is it {FORM}?")
    without_key = "authorization" not in answer.request.headers
    hint = f" (the key is read from ${KEY_VARIABLE})" if answer.status_code == 401 and without_key else ""
    raise Refused(answer.status_code, f"{document['error']}{hint}")
