"""The error classes. A RequestError has the HTTP status of its response and the outcome that it is counted as.

GatewayError
├── SettingsError             a YAML file or the command line is wrong; names the path in the file
├── ModelUnavailable          a model file cannot be loaded, or is of an unsupported kind
│   └── ServerUnreachable     the server that runs the version cannot be asked now
├── RegistryError             the model registry refuses a call, or answers what it should not
│   ├── RegistryNotFound      it has no such model, version or file
│   └── RegistryUnavailable   it cannot be asked now; the gateway asks again
│       └── RegistrySilent    it cannot be reached, or does not answer in time
└── RequestError              a request that is not answered with a prediction
    ├── InvalidRequest    400 malformed, or does not fit the model; names the tensor and the remedy
    ├── Unauthenticated   401 no valid API key
    ├── Forbidden         403 the key lacks permission
    ├── NotFound          404 no such model or version
    ├── Conflict          409 the command contradicts the state
    ├── BodyTooSlow       408
    ├── BodyTooLarge      413
    ├── UnsupportedMedia  415
    ├── RateExceeded      429 the customer's rate limit is exceeded
    ├── HeadersTooLarge   431
    ├── ModelFailed       500 the model raised
    │   └── NoMemory          out of memory
    ├── InvalidOutput     500 the model's output cannot be sent
    ├── Unimplemented     501 allowed by HTTP or the protocol, but not supported here
    ├── Overloaded        503 more in flight than configured
    ├── NotReady          503 starting or draining
    ├── DeadlineExceeded  504
    └── VersionUnsupported 505 HTTP/2 without TLS, and other versions of HTTP
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import ClassVar, Final

NO_HEADERS: Final[Mapping[str, str]] = MappingProxyType({})
CLOSE_CONNECTION: Final[Mapping[str, str]] = MappingProxyType({"connection": "close"})
RETRY_SOON: Final[Mapping[str, str]] = MappingProxyType({"retry-after": "1"})
CHALLENGE: Final[Mapping[str, str]] = MappingProxyType({"www-authenticate": 'Bearer realm="canary-gateway"'})


class Outcome(StrEnum):
    """How a prediction ended; guards, metrics and records share this list."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    MODEL_ERROR = "model_error"
    INVALID_OUTPUT = "invalid_output"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    CRASHED = "crashed"  # the version's process or server ended while the request was in it
    UNAVAILABLE = "unavailable"  # the version's process or server was not there to be asked
    EXCUSED = "excused"  # the candidate failed, but so did stable on the same request: no evidence against it


NOT_FAILURES: Final = frozenset(  # the calls that a crash takes along are innocent: guards.breaker.crashes judges it
    {Outcome.OK, Outcome.CLIENT_ERROR, Outcome.EXCUSED, Outcome.CRASHED, Outcome.UNAVAILABLE}
)


def request_counts(outcomes: Mapping[Outcome, int]) -> tuple[int, int]:
    """Return how many requests count for a version, and how many of them failed; client errors are in neither.

    Guards, status, console and metrics all compute error rates with this function, so they agree.
    """
    failed = sum(count for outcome, count in outcomes.items() if outcome not in NOT_FAILURES)
    return sum(outcomes.values()) - outcomes.get(Outcome.CLIENT_ERROR, 0), failed


class GatewayError(Exception):
    """Base of all errors that the gateway raises; the message names the cause and the remedy."""


class SettingsError(GatewayError):
    """One or more mistakes in a settings file. `source`: the file; `problems`: one line each, with the path in it."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class ModelUnavailable(GatewayError):
    """A model version cannot be served; the message says why."""


class ServerUnreachable(ModelUnavailable):
    """The server that runs a version cannot be asked now; the gateway asks again."""


class RegistryError(GatewayError):
    """The model registry refuses a call, or answers what it should not; the message says what."""


class RegistryNotFound(RegistryError):
    """The registry has no such model, version or file."""


class RegistryUnavailable(RegistryError):
    """The registry cannot be asked now; the gateway asks again."""


class RegistrySilent(RegistryUnavailable):
    """The registry cannot be reached, or does not answer in time."""


class RequestError(GatewayError):
    """A request is answered with an error: its HTTP `status`, the `outcome` it counts as, and additional `headers`."""

    status: ClassVar[int] = 500
    outcome: ClassVar[Outcome] = Outcome.MODEL_ERROR
    headers: Mapping[str, str] = NO_HEADERS


class InvalidRequest(RequestError):
    status = 400
    outcome = Outcome.CLIENT_ERROR


class Unauthenticated(RequestError):
    status = 401
    outcome = Outcome.CLIENT_ERROR
    headers = CHALLENGE


class Forbidden(RequestError):
    status = 403
    outcome = Outcome.CLIENT_ERROR


class NotFound(RequestError):
    status = 404
    outcome = Outcome.CLIENT_ERROR


class Conflict(RequestError):
    status = 409
    outcome = Outcome.CLIENT_ERROR


class BodyTooSlow(RequestError):
    status = 408
    outcome = Outcome.CLIENT_ERROR
    headers = CLOSE_CONNECTION


class HeadersTooLarge(RequestError):
    status = 431
    outcome = Outcome.CLIENT_ERROR
    headers = CLOSE_CONNECTION


class BodyTooLarge(RequestError):
    status = 413
    outcome = Outcome.CLIENT_ERROR
    headers = CLOSE_CONNECTION


class UnsupportedMedia(RequestError):
    status = 415
    outcome = Outcome.CLIENT_ERROR


class RateExceeded(RequestError):
    """A customer exceeds `rate`, in requests per second, and may try again in `wait_s` seconds (Retry-After)."""

    status = 429
    outcome = Outcome.CLIENT_ERROR

    def __init__(self, rate: float, wait_s: int) -> None:
        super().__init__(
            f"more than {rate:g} requests per second, this customer's limit (limits.rate); try again later"
        )
        self.headers = {"retry-after": str(wait_s)}


class ModelFailed(RequestError):
    status = 500
    outcome = Outcome.MODEL_ERROR


class NoMemory(ModelFailed):
    """The model ran out of memory; whether because of this version, others or the input cannot be known."""


class ProcessLost(RequestError):
    """The version's own process is being started again, or the server that runs it cannot be reached."""

    status = 503
    outcome = Outcome.UNAVAILABLE
    headers = RETRY_SOON


class ProcessCrashed(ProcessLost):
    """The version's own process, or the connection to its server, has ended while the request was in it. `alone`: while
    the process ran this request only.
    """

    outcome = Outcome.CRASHED
    alone = False


class InvalidOutput(RequestError):
    status = 500
    outcome = Outcome.INVALID_OUTPUT


class Unimplemented(RequestError):
    status = 501
    outcome = Outcome.CLIENT_ERROR
    headers = CLOSE_CONNECTION


class Overloaded(RequestError):
    status = 503
    outcome = Outcome.OVERLOADED
    headers = RETRY_SOON


class NotReady(RequestError):
    status = 503
    outcome = Outcome.OVERLOADED
    headers = RETRY_SOON


class DeadlineExceeded(RequestError):
    status = 504
    outcome = Outcome.TIMEOUT


class VersionUnsupported(RequestError):
    status = 505
    outcome = Outcome.CLIENT_ERROR
    headers = CLOSE_CONNECTION
