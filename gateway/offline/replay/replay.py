"""Replays recorded requests on a version, and compares it with each version that had answered them."""

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.backends.loaded_version import LoadedVersion
from gateway.errors import GatewayError
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.reader import Joined, OnProgress, Query, Records, join_feedback, load_feedback
from gateway.offline.replay.comparison import ReplayComparison
from gateway.offline.replay.judgement import Agreeing
from gateway.offline.replay.runner import Runner


@dataclass(frozen=True, slots=True)
class Replay:
    """The result of a replay. `by_version`: the comparison with each version that had answered, in numerical order.

    Skipped predictions: `unanswered` had failed; `unrecorded` have no recorded request or response.
    """

    model: str
    version: int
    batched: bool
    unanswered: int
    unrecorded: int
    by_version: Mapping[int, ReplayComparison]

    @property
    def count(self) -> int:
        """How many predictions were replayed."""
        return sum(comparison.count for comparison in self.by_version.values())


class _Replayable:
    """Filters predictions that can be compared, and counts the others."""

    def __init__(self) -> None:
        self.unanswered = 0
        self.unrecorded = 0

    def of(self, pairs: Iterator[Joined]) -> Iterator[Joined]:
        for prediction, feedback in pairs:
            if not prediction.ok:
                self.unanswered += 1
            elif not prediction.has_request or prediction.response is None:
                self.unrecorded += 1
            else:
                yield prediction, feedback


def replay(
    records: Records,
    query: Query,
    loaded: LoadedVersion,
    version: int,
    *,
    limit: int | None,
    batched: bool,
    feedback: OnProgress,
    rows: OnProgress,
    agreeing: Agreeing = Agreeing(),  # noqa: B008 - frozen
) -> Replay:
    """Run the first `limit` predictions of the query (None: all) on `loaded`, which is `version` of the model.

    `batched`: run compatible requests in batches. `agreeing`: when two answers agree. `feedback` and `rows` are called
    with the bytes passed. Raises GatewayError if no prediction can be replayed.
    """
    chosen = _Replayable()
    found: dict[int, ReplayComparison] = {}
    runner = Runner(loaded, batched=batched)
    with tempfile.TemporaryDirectory() as folder, FeedbackStore(Path(folder) / "feedback.sqlite") as store:
        load_feedback(store, records, query, feedback)
        pairs = itertools.islice(chosen.of(join_feedback(records, query, store, rows)), limit)
        for rerun in runner.run(pairs):
            answered_by = rerun.prediction.version
            expected = loaded.sha256 if answered_by == version else None
            found.setdefault(answered_by, ReplayComparison()).add(rerun, expected, agreeing)
    if not found:
        raise GatewayError(
            f"no recorded prediction of '{query.model}' can be replayed: {chosen.unanswered:,} had failed,"
            f" {chosen.unrecorded:,} have no recorded request or response"
        )
    return Replay(query.model, version, batched, chosen.unanswered, chosen.unrecorded, dict(sorted(found.items())))
