"""The JSON documents of the control plane: their shapes.

What is NotRequired is left out as long as there is nothing to say: a console shows what is there.
"""

from typing import TYPE_CHECKING, Any, NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

if TYPE_CHECKING:  # else every command would wait for what decides requests
    from gateway.routing.explanation import Explanation


class DecisionDocument(TypedDict):
    """A change of a release. `time_ns` since 1970; `by`: a person, a key or a guard.

    Later decisions have a higher `sequence`, also where the clock was set back between them.
    """

    sequence: int
    time_ns: int
    model: str
    candidate: int
    action: str
    by: str
    reason: str
    evidence: dict[str, Any]


class OrderDocument(DecisionDocument):
    """What an order has come to, in force now. `on_disk`: false where a restart would not know of it yet."""

    on_disk: bool


class RouteDocument(TypedDict):
    """One route's weight as configured, and as it is now."""

    route: str
    weight_percent: float
    in_force_percent: float


class VersionDocument(TypedDict):
    """How one version fares, since the gateway started. Latencies are None before the first request.

    `runs_on`: ONNX Runtime's execution providers that run it; `warning`: which were asked for and cannot be used.
    `errors` are the version's own failures, and `error_rate` their share of the requests that were no client's error.
    """

    version: int
    variant: str
    requests: int
    errors: int
    error_rate: float | None
    outcomes: dict[str, int]
    rescues: dict[str, int]
    latency_mean_ms: float | None
    latency_p50_ms: float | None
    latency_p95_ms: float | None
    latency_p99_ms: float | None
    accuracy: float | None
    labelled: int
    reward_mean: float | None
    runs_on: list[str]
    warning: str | None


class RampDocument(TypedDict):
    """Where a ramp stands. `weights` in percent; `step` counts from 0."""

    stage: str
    step: int
    weights: list[float]
    weight_percent: float
    next_step_in_s: float | None
    waiting_for: str


class GuardDocument(TypedDict):
    """What a guard has found. `verdict`: no-data, inconclusive, safe, harmful, or of predicted classes: different.

    `says`: the same for people, who are also told what there is no data of.
    """

    name: str
    metric: str
    verdict: str
    says: str
    log10_e: float | None
    line_log10: float
    action: str  # stop, pause, or none: only for `advance: safe`


class ForecastDocument(TypedDict):
    """How many requests it takes at this weight to notice twice as many failures, or to show that there are no more.

    None where nothing has failed yet, or nothing is left to chance.
    """

    requests_to_notice_doubling: float | None
    requests_to_show_safety: float | None


class TooShortDocument(TypedDict):
    """Requests that went to stable undrawn since the start, for a deadline that leaves no time for a second version."""

    requests: int
    percent: float


class ReleaseDocument(TypedDict):
    """One model: its versions, the split between them, and whether the candidate is stopped.

    `latency_compared`: stable runs in threads as the candidate does. Else it may run on the event loop, and is spared
    what threads add.
    """

    model: str
    stable: int
    candidate: int | None
    stopped: bool
    stop: DecisionDocument | None
    epoch: int
    routes: list[RouteDocument]
    versions: list[VersionDocument]
    too_short: NotRequired[TooShortDocument]
    latency_compared: bool
    ramp: NotRequired[RampDocument]
    guards: NotRequired[list[GuardDocument]]
    forecast: NotRequired[ForecastDocument]


class LeftOutDocument(TypedDict):
    """A version that is not served, and why."""

    model: str
    version: int
    reason: str


class RecordsDocument(TypedDict):
    """The records. `error`: why they cannot be written now; `written`: lines by kind; `dropped`: of all kinds."""

    error: str | None
    written: dict[str, int]
    dropped: int


class ConfigDocument(TypedDict):
    """The configuration in force with what in it cannot be meant, and what is wrong with the last edit that is not.

    `candidates_closed`: started with a file that was refused, so that no candidate receives traffic until it is fixed.
    """

    revision: str
    generation: int
    acknowledged: int
    workers: int
    loaded_time_s: float
    last_error: str | None
    warnings: list[str]
    candidates_closed: bool
    left_out: list[LeftOutDocument]
    records: RecordsDocument


class TrialDocument(TypedDict):
    """Whether one route matched."""

    route: str
    matched: bool
    reason: str


class ExplanationDocument(TypedDict):
    """Which version answers such a request, and why. `version` is None where each prediction falls by chance."""

    model: str
    version: int | None
    variant: str | None
    route: str
    bucket: int | None
    weight_ppm: int
    propensity: float | None
    key: str | None
    key_source: str
    salt: str
    why: str
    routes: list[TrialDocument]


class EditDocument(TypedDict):
    """An edit of the routing file. `decision` is None where nothing was changed, as in a dry run.

    `on_disk`: false where a restart would not know of it yet.
    """

    model: str
    action: str
    dry_run: bool
    difference: str
    decision: DecisionDocument | None
    on_disk: bool


class HealthDocument(TypedDict):
    """The gateway has started, and workers serve: `serving` of `workers`."""

    healthy: bool
    pid: int
    workers: int
    serving: int


def explanation_document(model: str, explanation: "Explanation") -> ExplanationDocument:
    decision = explanation.decision
    return {
        "model": model,
        "version": decision.version if decision else None,
        "variant": str(decision.variant) if decision else None,
        "route": explanation.route,
        "bucket": decision.bucket if decision else None,
        "weight_ppm": explanation.weight_ppm,
        "propensity": decision.propensity if decision else None,
        "key": explanation.key,
        "key_source": explanation.key_source,
        "salt": explanation.salt,
        "why": explanation.why,
        "routes": [
            {"route": trial.route, "matched": trial.matched, "reason": trial.reason} for trial in explanation.trials
        ],
    }
