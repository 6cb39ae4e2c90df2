"""One prediction under way: what was asked, what was decided, who answers."""

from dataclasses import dataclass
from typing import NamedTuple

from gateway.backends.signature import Feeds
from gateway.backends.version import ModelVersion
from gateway.protocol.tensors import InferRequest
from gateway.routing.attributes import Attributes
from gateway.routing.release import Decision
from gateway.worker.models.served_model import ServedModel


class Trace(NamedTuple):
    """`trace_id`: 32 hexadecimal digits; `span_id`: the caller's span, 16; `sampled`: whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool


class Origin(NamedTuple):
    """By what other systems know a request: the trace that it is part of, and its header x-request-id, where valid."""

    trace: Trace | None
    request_id: str | None


@dataclass(slots=True)
class RequestSource:
    """The request as it came, decompressed. `json_length`: where its JSON ends and raw tensors begin (None: all JSON).

    `media`: image, text …, where the body is one raw element and no JSON at all. `origin`: what the headers
    say of it, None where they say nothing.
    """

    body: bytes
    json_length: int | None = None
    media: str | None = None
    origin: Origin | None = None

    @property
    def received(self) -> bytes:
        """What was received, to the byte."""
        return self.body


class RestatedSource(RequestSource):
    """A request that came as no JSON (NaN as a number); `body` is its JSON, so that a record can hold it."""

    def __init__(self, body: bytes, json_length: int | None, received: bytes) -> None:
        super().__init__(body, json_length)
        self._received = received

    @property
    def received(self) -> bytes:
        return self._received


class Call:
    """A prediction decided and checked, not yet run.

    `stable_feeds` are the inputs as stable takes them, for a rescue; `rescued` says why there was one, "" where there
    was none; `asked_ns` is when stable was asked for it. `patience_ns` is what the candidate may take, or might have
    taken (0: it was not to be asked); `fair`: no less than stable takes. `latency_counts`: whether it is evidence if
    it is slow. `accused_ns` is when the candidate failed, for
    as long as it is not known whose fault that is (then 0); `answers` is what it had answered by then. `nonce` tells
    the prediction from all others; `prediction_id` is b"" until it is answered. What has no value here gets one when
    the call is bound.
    """

    deadline_ns: int
    feeds: Feeds
    stable_feeds: Feeds
    epoch = 0
    patience_ns = 0
    fair = False
    latency_counts = True
    accused_ns = 0
    answers = 0
    asked_ns = 0
    prediction_id = b""
    rescued = ""

    def __init__(
        self,
        request: InferRequest,
        source: RequestSource,
        attributes: Attributes,
        served: ServedModel,
        decision: Decision,
        nonce: int,
        started_ns: int,
    ) -> None:
        self.request = request
        self.source = source
        self.attributes = attributes
        self.served = served
        self.decision = decision
        self.nonce = nonce
        self.version: ModelVersion = served.versions[decision.version]
        self.started_ns = started_ns
