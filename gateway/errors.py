"""The error tree. Each error knows the HTTP status it is answered with and the outcome it is counted as.

GatewayError
├── SettingsError             a YAML file or the command line is wrong; names its path
├── ModelUnavailable          a model file cannot be loaded, or is of a kind that is not served
└── RequestError              a request that is not answered with a prediction
    ├── InvalidRequest    400 malformed, or does not fit the model; names the tensor and the remedy
    ├── Unauthenticated   401 no valid API key
    ├── Forbidden         403 who asks may not do this
    ├── NotFound          404 no such model or version
    ├── Conflict          409 the order contradicts the state
    ├── BodyTooSlow       408
    ├── BodyTooLarge      413
    ├── UnsupportedMedia  415
    ├── RateExceeded      429 more often than the customer may ask
    ├── HeadersTooLarge   431
    ├── ModelFailed       500 the model raised
    │   └── NoMemory          for want of memory
    ├── ProcessLost       503 the version's own process is not there
    │   └── ProcessCrashed    it ended while the request was in it
    ├── InvalidOutput     500 the model answered with something that cannot be sent
    ├── Unimplemented     501 what the protocol allows and is not done here
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
    """How a prediction ended: the one list that guards, metrics and records share."""

    OK = "ok"
    CLIENT_ERROR = "client_error"
    MODEL_ERROR = "model_error"
    INVALID_OUTPUT = "invalid_output"
    TIMEOUT = "timeout"
    OVERLOADED = "overloaded"
    CRASHED = "crashed"  # the version's own process ended while the request was in it
    UNAVAILABLE = "unavailable"  # the version's own process was not there to be asked: it is being started again
    EXCUSED = "excused"  # a candidate's failure that is not its fault: stable fails on the request as well


NOT_FAILURES: Final = frozenset(  # the calls that a crash takes along are innocent: guards.breaker.crashes judges it
    {Outcome.OK, Outcome.CLIENT_ERROR, Outcome.EXCUSED, Outcome.CRASHED, Outcome.UNAVAILABLE}
)


def request_counts(outcomes: Mapping[Outcome, int]) -> tuple[int, int]:
    """Requests that a version was there to answer, and those of them that it failed on; a client's error is neither.

    The one rule by which error rates are counted: guards, status, console and metrics say the same of the same traffic.
    """
    failed = sum(count for outcome, count in outcomes.items() if outcome not in NOT_FAILURES)
    return sum(outcomes.values()) - outcomes.get(Outcome.CLIENT_ERROR, 0), failed


class GatewayError(Exception):
    """Anything the gateway refuses or fails at, with a message that a person can act on."""


class SettingsError(GatewayError):
    """One or more mistakes in a YAML file, each named by its path in the file."""

    def __init__(self, source: str, problems: list[str]) -> None:
        self.source = source
        self.problems = problems
        super().__init__("\n".join(f"{source}: {problem}" for problem in problems))


class ModelUnavailable(GatewayError):
    """A model version that cannot be served; the message says why."""


class RequestError(GatewayError):
    """A request that is answered with an error instead of a prediction."""

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
    """A customer who may send `rate` requests per second must wait for `wait_s` seconds."""

    status = 429
    outcome = Outcome.CLIENT_ERROR

    def __init__(self, rate: float, wait_s: int) -> None:
        super().__init__(f"more than {rate:g} requests per second, which is this customer's limits.rate; wait a moment")
        self.headers = {"retry-after": str(wait_s)}


class ModelFailed(RequestError):
    status = 500
    outcome = Outcome.MODEL_ERROR


class NoMemory(ModelFailed):
    """The model failed for want of memory: which of those that share it took it, or the input, no one knows."""


class ProcessLost(RequestError):
    """The version's own process is being started again."""

    status = 503
    outcome = Outcome.UNAVAILABLE
    headers = RETRY_SOON


class ProcessCrashed(ProcessLost):
    """The version's own process has ended while the request was in it."""

    outcome = Outcome.CRASHED


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
