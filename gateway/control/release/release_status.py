"""The status of a release as shown by the API, the console and `gateway status`."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.control.metrics.process_metrics import ProcessStatus
from gateway.control.metrics.registry_metrics import RegistryModel
from gateway.control.record_writer.outcome_sums import FeedbackSums
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.forecast import Progress
from gateway.evidence.effect import Effect
from gateway.shm.tally import Totals


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """The status of one version in a release.

    `providers`: execution providers that run it. `warning`: which other providers should run it but cannot. `process`:
    the one of its own, None if it runs in the workers.
    """

    version: int
    variant: str
    totals: Totals
    feedback: FeedbackSums
    providers: tuple[str, ...] = ()
    warning: str = ""
    process: ProcessStatus | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseStatus:
    """The present status of one release. `stop`: the decision that stopped it, or None.

    Weights in ppm, by route: `weights_ppm` are those in force while it is not stopped, `configured_ppm` those by the
    file and the ramp's step, without conditions on live metrics. `progress` is None if there is no candidate.
    `latency_compared`: as many of stable's requests as the candidate gets run as the candidate's do, so that their
    latencies are comparable. `effects`: of the candidate on each outcome of its predictions. `undo`: the version to
    which an undo of the last promotion leads; None if none is possible. `registry`: what is known of the model there.
    """

    model: str
    stable: int
    candidate: int | None
    weights_ppm: Mapping[str, int]
    configured_ppm: Mapping[str, int]
    stopped: bool
    stop: ReleaseDecision | None
    epoch: int
    versions: tuple[VersionStatus, ...]
    progress: Progress | None
    ramp_ppm: tuple[int, ...]
    latency_compared: bool = False
    effects: tuple[Effect, ...] = ()
    undo: int | None = None
    registry: RegistryModel | None = None
