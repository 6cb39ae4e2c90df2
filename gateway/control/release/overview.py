"""What is known of a release while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.control.record_writer.feedback_stats import VersionFeedback
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.forecast import Progress
from gateway.shm.tally import Totals


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version's part in a release. `providers` run it; `warning`: which others should, and cannot."""

    version: int
    variant: str
    totals: Totals
    credit: VersionFeedback
    providers: tuple[str, ...] = ()
    warning: str = ""


@dataclass(frozen=True, slots=True)
class ReleaseStatus:
    """One release as it is now. `stop`: why it is stopped, or None.

    Weights in ppm, by route: `weights_ppm` as they are while it is not stopped, `configured_ppm` as the file and the
    ramp's step say, without conditions on live metrics. `progress` is None where there is no candidate.
    `compares_latency`: stable runs in threads, as the candidate does, so that their latencies are alike.
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
    compares_latency: bool = False
