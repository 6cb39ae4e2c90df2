"""A replay: recorded requests on a version, and how it compares with each version that had answered them."""

import itertools
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gateway.backends.loaded_version import LoadedVersion
from gateway.errors import GatewayError
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.reader import Advance, Joined, Query, Records, fill, joined
from gateway.offline.replay.comparison import ReplayComparison
from gateway.offline.replay.runner import Runner


@dataclass(frozen=True, slots=True)
class Replay:
    """`by_version`: the comparison with each version that had answered, in the order of their numbers.

    `unanswered` and `unrecorded`: predictions that were passed over, because they had failed, or their request or
    response is not recorded.
    """

    model: str
    version: int
    batched: bool
    unanswered: int
    unrecorded: int
    by_version: Mapping[int, ReplayComparison]

    @property
    def count(self) -> int:
        """How many predictions were run again."""
        return sum(comparison.count for comparison in self.by_version.values())


class _Replayable:
    """Passes on predictions that can be compared, and counts the others."""

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
    feedback: Advance,
    rows: Advance,
) -> Replay:
    """Run the first `limit` predictions of the query (None: all) on `loaded`, which is `version` of the model.

    `feedback` and `rows` are told the bytes passed. Raises GatewayError where there is none to run.
    """
    chosen = _Replayable()
    found: dict[int, ReplayComparison] = {}
    runner = Runner(loaded, batched=batched)
    with tempfile.TemporaryDirectory() as folder, FeedbackStore(Path(folder) / "feedback.sqlite") as store:
        fill(store, records, query, feedback)
        pairs = itertools.islice(chosen.of(joined(records, query, store, rows)), limit)
        for rerun in runner.run(pairs):
            answered_by = rerun.prediction.version
            expected = loaded.sha256 if answered_by == version else None
            found.setdefault(answered_by, ReplayComparison()).add(rerun, expected)
    if not found:
        raise GatewayError(
            f"no recorded prediction of '{query.model}' can be run again: {chosen.unanswered:,} of them failed,"
            f" of {chosen.unrecorded:,} the request is not recorded"
        )
    return Replay(query.model, version, batched, chosen.unanswered, chosen.unrecorded, dict(sorted(found.items())))
