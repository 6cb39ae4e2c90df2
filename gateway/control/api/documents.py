"""The shapes of the control plane's JSON documents.

NotRequired fields are omitted as long as there is nothing to report: the console shows the fields that are present.
"""

from typing import TYPE_CHECKING, Any, NotRequired

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

from gateway.backends.provenance_documents import ProvenanceDocument
from gateway.control.api.feedback_documents import ClassDocument, MeasureDocument, RouteMeasuresDocument
from gateway.control.api.fleet_documents import SpreadDocument
from gateway.control.api.registry_documents import RegistryDocument, RegistryModelDocument
from gateway.control.release.effect_document import EffectDocument

if TYPE_CHECKING:  # else every CLI command would load the routing modules
    from gateway.routing.explanation import Explanation


class DecisionDocument(TypedDict):
    """A change of a release. `time_ns` since 1970; `by`: a person, a key or a guard.

    Later decisions have a higher `sequence`, even if the clock was set back between them.
    """

    sequence: int
    time_ns: int
    model: str
    candidate: int
    action: str
    by: str
    reason: str
    evidence: dict[str, Any]


class ConfirmationDocument(TypedDict):
    """What is known of a stop in a fleet. `confirmed`: no host answers from the candidate any more. `outcome`: the same
    in words. `hosts`: on how many it holds. `missing`: names of hosts that may still answer. `ms`: how long it took.
    `reason`: why it is not confirmed, null if it is.
    """

    confirmed: bool
    outcome: str
    hosts: int
    missing: list[str]
    ms: float
    reason: str | None


class CommandDocument(DecisionDocument):
    """The decision that a command made, in force now. `on_disk`: false if a restart would lose it. `fleet`: of a stop
    in a fleet.
    """

    on_disk: bool
    fleet: ConfirmationDocument | None


class RouteDocument(TypedDict):
    """One route's weight, as configured and as it is in force."""

    route: str
    weight_percent: float
    in_force_percent: float


class ProcessDocument(TypedDict):
    """The process that runs a version for all workers. `role`: stable or candidate. `state`: starting, ready, failed or
    dead; `starts`: how often it has been started. `memory_bytes`: what it takes for itself, 0 if that is unknown.
    """

    role: str
    state: str
    starts: int
    memory_bytes: int


class VersionDocument(TypedDict):
    """One version's statistics since the gateway started; those of feedback, since the version's first feedback.
    Latencies are None before the first request.

    `runs_on`: ONNX Runtime's execution providers that run it; `warning`: those that were requested and cannot be used.
    `process`: None if it runs in the workers. `errors` are the version's own failures, and `error_rate` their share of
    the requests, client errors excluded.
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
    measures: list[MeasureDocument]
    routes: list[RouteMeasuresDocument]
    classes: list[ClassDocument]
    runs_on: list[str]
    warning: str | None
    process: ProcessDocument | None
    provenance: NotRequired[ProvenanceDocument]


class RampDocument(TypedDict):
    """A ramp's progress. `weights` in percent; `step` counts from 0."""

    stage: str
    step: int
    weights: list[float]
    weight_percent: float
    next_step_in_s: float | None
    blocked_on: str


class GuardDocument(TypedDict):
    """A guard's result. `verdict`: no-data, inconclusive, safe, harmful, or for predicted classes: different.

    `summary`: the same as text, which also names what there is no data for.
    """

    name: str
    metric: str
    verdict: str
    summary: str
    log10_e: float | None
    threshold_log10: float
    action: str  # stop, pause, or none: only for `advance: safe`


class ForecastDocument(TypedDict):
    """How many requests are needed, at this weight, to detect a doubling of failures or to show that there is no
    increase. `at_least`: customers are sticky, of whom each counts once; as those who have not failed yet become fewer,
    it takes more requests, or does not come.

    None if nothing has failed yet, no request is assigned at random, or failures as they come never show it.
    """

    requests_to_detect_doubling: float | None
    requests_to_show_safety: float | None
    at_least: bool


class UnsplitDocument(TypedDict):
    """Requests sent to stable without a random draw since the start, because their deadline left no time to run a
    second version.
    """

    requests: int
    percent: float


class ReleaseDocument(TypedDict):
    """One model: its versions, the split between them, and whether the candidate is stopped.

    `latency_compared`: as many of stable's requests as the candidate gets run in a process, as the candidate's do.
    Otherwise stable may run on the event loop, which takes less time. `undo_to`: the version that an undo of the last
    promotion makes stable again; omitted if none is possible.
    """

    model: str
    stable: int
    candidate: int | None
    stopped: bool
    stop: DecisionDocument | None
    epoch: int
    routes: list[RouteDocument]
    versions: list[VersionDocument]
    unsplit: NotRequired[UnsplitDocument]
    latency_compared: bool
    undo_to: NotRequired[int]
    registry: NotRequired[RegistryModelDocument]
    ramp: NotRequired[RampDocument]
    guards: NotRequired[list[GuardDocument]]
    forecast: NotRequired[ForecastDocument]
    effects: NotRequired[list[EffectDocument]]


class UnavailableDocument(TypedDict):
    """A version that is not served, and why."""

    model: str
    version: int
    reason: str


class RecordsDocument(TypedDict):
    """The record writer. `error`: why it cannot write now; `written`: lines by kind;
    `dropped`: records of all kinds.
    """

    error: str | None
    written: dict[str, int]
    dropped: int


class ConfigDocument(TypedDict):
    """The configuration in force, its warnings, and the error of the last edit if that was refused.

    `candidates_closed`: the gateway started with a refused file, so no candidate receives traffic until it is fixed.
    `registry`: the model registry that is followed; null without one.
    """

    revision: str
    generation: int
    acknowledged: int
    workers: int
    loaded_time_s: float
    last_error: str | None
    warnings: list[str]
    candidates_closed: bool
    unavailable: list[UnavailableDocument]
    records: RecordsDocument
    registry: RegistryDocument | None


class RouteMatchDocument(TypedDict):
    """Whether one route matched."""

    route: str
    matched: bool
    reason: str


class ExplanationDocument(TypedDict):
    """Which version answers such a request, and why. `version` is None if each prediction is assigned at random."""

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
    routes: list[RouteMatchDocument]


class EditDocument(TypedDict):
    """An edit of the routing file. `decision` is None if nothing was changed, as in a dry run.

    `on_disk`: false if a restart would lose the edit. `fleet`: on which hosts it is in force; null without a fleet, or
    if nothing was changed. `notes`: what there is to know of it besides, in a dry run too.
    """

    model: str
    action: str
    dry_run: bool
    difference: str
    decision: DecisionDocument | None
    on_disk: bool
    fleet: SpreadDocument | None
    notes: list[str]


class HealthDocument(TypedDict):
    """The gateway has started, and `serving` of `workers` workers serve."""

    healthy: bool
    pid: int
    workers: int
    serving: int


def explanation_document(model: str, explanation: "Explanation") -> ExplanationDocument:
    """The document of an explanation for `model`."""
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
