"""One prediction under way: what was asked, what was decided, who answers."""

from collections.abc import Sequence
from typing import NamedTuple

from gateway.routing.attributes import Attributes
from gateway.routing.release import Decision
from gateway.served import ServedModel
from gateway.serving.signature import Feeds
from gateway.serving.version import ModelVersion
from gateway.tensors import InferRequest


class Source(NamedTuple):
    """The request as it came, decompressed. `json_length`: where its JSON ends and raw tensors begin (None: all JSON).

    `media`: image, text …, where the body is one raw element and no JSON at all.
    """

    body: bytes
    json_length: int | None = None
    media: str | None = None


class Call:
    """A prediction decided and checked, not yet run.

    `stable_feeds` are the inputs as stable takes them, for a rescue; `rescued` says why there was one, "" where there
    was none. `blamed_ns` is when a candidate that rejected the inputs was asked: it is at fault only if stable then
    answers. `nonce` tells the prediction from all others.
    """

    __slots__ = (
        "attributes", "blamed_ns", "deadline_ns", "decision", "epoch", "feeds", "nonce", "positions", "request",
        "rescued", "served", "source", "stable_feeds", "started_ns", "version",
    )  # fmt: skip

    def __init__(
        self,
        request: InferRequest,
        source: Source,
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
        self.deadline_ns = started_ns
        self.epoch = 0
        self.blamed_ns = 0
        self.rescued = ""
        self.feeds: Feeds = {}
        self.stable_feeds: Feeds = {}
        self.positions: Sequence[int] = ()
