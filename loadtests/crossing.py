"""When a gateway's evidence crossed its line, and what the candidate still got afterwards: from its records alone."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from gateway.control.guards.evidence import alpha_of, log_combined, log_harm
from gateway.control.guards.failure_sources import RATIOS
from gateway.evidence.differences import OutcomeShares, units
from gateway.evidence.means import MeanDifference
from gateway.records.segments import FEEDBACK, PREDICTIONS, segments
from gateway.settings.metric_names import WRONG_FEEDBACK

PPM: Final = 1_000_000
FAILURES: Final = ("model_error", "invalid_output", "timeout")
Record = dict[str, Any]


class Failed(NamedTuple):
    """A failure as one of the comparisons counts it; `time_ns` is when it was known at the latest."""

    time_ns: int
    metric: str
    chance: float
    candidate: bool
    wrong: bool = True  # only truths may be right


@dataclass(frozen=True, slots=True)
class Watched:
    """What is compared, all to stop, and from which latency on a request is slow."""

    metrics: Sequence[str]
    alpha: float
    slow_ms: float


def lines(records: Path, stream: str) -> Iterator[Record]:
    """Every whole line of a stream, in order; a gateway that still runs may be writing the last one."""
    for path in segments(records, stream):
        with path.open("rb") as file:
            yield from (orjson.loads(line) for line in file if line.endswith(b"\n"))


def is_candidates(record: Record) -> bool:
    """Whether chance sent the request to the candidate, whoever answered it in the end."""
    return record["variant"] == "candidate" or record["rescued_from"] is not None


def decided_ns(record: Record) -> int:
    """When it was decided who answers."""
    return int(record["time_ns"]) - int(record["latency_us"]) * 1000


def crossed_ns(records: Path, watched: Watched, until_ns: int) -> int | None:
    """When the failures of all comparisons together became enough, and were so still when control looked at `until_ns`.

    Stable's failures speak against the evidence: a line that was crossed and crossed back between two looks of control
    is crossed again by a later failure, which is the one meant. None where there is none.
    """
    counts: defaultdict[str, Counter[tuple[float, bool]]] = defaultdict(Counter)
    shares = [1 / len(watched.metrics)] * len(watched.metrics)
    log_e = dict.fromkeys(watched.metrics, 0.0)
    truths, comes = MeanDifference(), OutcomeShares()
    enough, crossed, beyond = -math.log(alpha_of(watched.alpha, 1)), None, False
    for failed in sorted(_failures(records, watched)):
        if failed.time_ns > until_ns:
            break
        if failed.metric == WRONG_FEEDBACK:
            chance = comes.next(failed.chance, failed.chance, failed.candidate)
            truths.add(units([failed.wrong], [failed.candidate], [chance]))
            log_e[failed.metric] = truths.log_e
        else:
            counts[failed.metric][failed.chance, failed.candidate] += 1
            log_e[failed.metric] = log_harm(counts[failed.metric], RATIOS[failed.metric])
        before, beyond = beyond, log_combined(list(log_e.values()), shares) >= enough
        if beyond and not before:
            crossed = failed.time_ns
    return crossed


def last_candidate_ns(records: Path) -> int:
    """When the last request was sent to the candidate, by any worker."""
    return max((decided_ns(record) for record in lines(records, PREDICTIONS) if is_candidates(record)), default=0)


def _failures(records: Path, watched: Watched) -> Iterator[Failed]:
    chances: dict[str, tuple[float, bool]] = {}
    for record in lines(records, PREDICTIONS):
        chance, candidate = (record["weight_ppm"] or 0) / PPM, is_candidates(record)
        if not 0 < chance < 1:
            continue
        if record["rescued_from"] is None:
            chances[record["prediction_id"]] = chance, candidate
            if record["latency_us"] > watched.slow_ms * 1e3:
                yield Failed(record["time_ns"], "slow_requests", chance, candidate)
        reason = record["outcome"] if record["rescued_from"] is None else record["rescue_reason"]
        if reason in FAILURES:  # known soon after it was decided; stable's answer came later
            yield Failed(decided_ns(record), "failures", chance, candidate)
    if WRONG_FEEDBACK in watched.metrics:
        for record in lines(records, FEEDBACK):
            if record["correct"] is not None and record["prediction_id"] in chances:
                wrong = not record["correct"]
                yield Failed(record["time_ns"], WRONG_FEEDBACK, *chances[record["prediction_id"]], wrong)
