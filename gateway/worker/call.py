"""One prediction in flight: the request, the routing decision, and the version that answers it."""

from gateway.backends.signature import Feeds
from gateway.backends.version import ModelVersion
from gateway.protocol.source import Origin as Origin
from gateway.protocol.source import RequestSource as RequestSource
from gateway.protocol.source import RestatedSource as RestatedSource
from gateway.protocol.source import Trace as Trace
from gateway.protocol.tensors import InferRequest
from gateway.routing.attributes import Attributes
from gateway.routing.release import Decision
from gateway.worker.models.served_model import ServedModel
from gateway.worker.models.time_budget import MARGIN_NS


class Call:
    """A prediction whose version is decided and whose inputs are checked; holds its state until it is answered.

    `stable_feeds`: of a candidate's call, the inputs as stable takes them, for a rescue. `rescued`: the reason of
    the rescue, "" if there is none; `rescue_started_ns`: when it was submitted to stable. `candidate_timeout_ns`:
    the time limit of the candidate, also if stable was drawn (0: the candidate must not run); `timeout_is_fair`:
    the limit is at least stable's usual time; `latency_counts`: whether it is evidence if it is slow.
    `candidate_failed_ns`: when the candidate failed, 0 if it has not or if it is known whose fault that was;
    `candidate_answers`: how many answers the candidate had given by then. `died_alone`: the candidate's process
    ended while it ran this request only. `nonce` is unique to the prediction; `prediction_id` is b"" until it is
    answered. `Pipeline.begin` sets the attributes that have no default. All times are of the monotonic clock.
    """

    deadline_ns: int
    feeds: Feeds
    stable_feeds: Feeds
    epoch = 0
    candidate_timeout_ns = 0
    timeout_is_fair = False
    latency_counts = True
    candidate_failed_ns = 0
    candidate_answers = 0
    rescue_started_ns = 0
    died_alone = False
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

    def spend(self, waited_ns: int) -> None:
        """Take off its deadline what it has waited for before it began, and off the candidate's if less than half would
        be left to stable: being late is then no evidence.
        """
        self.deadline_ns -= waited_ns
        half_ns = (self.deadline_ns - self.started_ns) // 2
        if waited_ns > MARGIN_NS and self.candidate_timeout_ns > half_ns:
            self.candidate_timeout_ns = max(self.candidate_timeout_ns - waited_ns, half_ns, 1)
            self.timeout_is_fair = False
