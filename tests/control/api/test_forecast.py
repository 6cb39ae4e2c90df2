"""The forecast in a release's document: of requests that are drawn each on its own, and of sticky customers."""

from gateway.control.api.rendering import release_document
from gateway.control.record_writer.outcome_sums import FeedbackSums
from gateway.control.release.forecast import progress
from gateway.control.release.release_status import ReleaseStatus, VersionStatus
from gateway.shm.failure_events import FailureEvent, FailureKind
from tests.control.release.running import ERRORS, RAMP, Running, release


def test_document_says_whether_the_requests_are_the_least() -> None:
    found = []
    for key in (None, 900_000):
        running = Running(release(ramp={**RAMP, "weights": [10, 100], "advance": "safe"}, comparisons=[ERRORS]))
        running.tick(failures=[FailureEvent(0, 0, 1, 100_000, False, FailureKind.FAILURE, key)])
        totals = running.stable.read()
        versions = (
            VersionStatus(1, "stable", totals, FeedbackSums()),
            VersionStatus(2, "candidate", totals, FeedbackSums()),
        )
        status = ReleaseStatus(
            model="m",
            stable=1,
            candidate=2,
            weights_ppm={},
            configured_ppm={},
            stopped=False,
            stop=None,
            epoch=1,
            versions=versions,
            progress=progress(running.controller, running.now_s, 0.01),
            ramp_ppm=(100_000, 1_000_000),
        )
        forecast = release_document(status)["forecast"]
        assert forecast["requests_to_detect_doubling"] and forecast["requests_to_show_safety"]
        found.append(forecast["at_least"])
    assert found == [False, True]
