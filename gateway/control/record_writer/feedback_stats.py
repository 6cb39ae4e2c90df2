"""Feedback statistics of each version: live counts, each prediction once, however often clients repeat its feedback.

Runs in the control process, which receives the feedback of all workers, and passes new feedback on to the guards.
"""

import logging
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

import orjson

from gateway.errors import InvalidRequest
from gateway.records.outcomes import is_countable
from gateway.records.segments import FEEDBACK, segments
from gateway.records.token import Signer, Token

MAX_REMEMBERED: Final = 200_000  # latest items of feedback recognised when repeated; older ones count again
MOST_METRICS: Final = 32  # business metrics kept for each version
MAX_BUFFERED: Final = 100_000  # most items buffered for the guards: more push the oldest out, but are counted
CORRECT: Final = "correct"
WRONG: Final = "wrong"
UNKNOWN: Final = "unknown"  # a truth that cannot be compared with the prediction
UNLABELLED: Final = "unlabelled"  # feedback without a truth
VERDICTS: Final = (CORRECT, WRONG, UNKNOWN, UNLABELLED)
TRUTH: Final = "truth"
REWARD: Final = "reward"
METRIC: Final = "metric"
METRICS: Final = "metrics."  # what the outcomes' names of business metrics begin with
NO_VALUE: Final = object()  # there was no earlier value
EARLIER_RUN: Final = object()  # another value was given in an earlier run, and is not counted in this one
Part = tuple[str, str]  # TRUTH, REWARD or METRIC, and the metric's name
_TRUTH: Final[Part] = (TRUTH, "")
_REWARD: Final[Part] = (REWARD, "")
_VERDICTS: Final[Mapping[bool | None, str]] = {True: CORRECT, False: WRONG, None: UNKNOWN}
log: Final = logging.getLogger("gateway.control.record_writer")


@dataclass(slots=True, kw_only=True)
class VersionFeedback:
    """One version's feedback in one variant. The latest feedback on a prediction replaces earlier feedback on it.

    `metrics`: count and sum by name. `received` (by verdict), `received_rewards` and `received_reward_sum` count
    corrections again, so that the counts never decrease.
    """

    correct: int = 0
    wrong: int = 0
    unknown: int = 0
    rewards: int = 0
    reward_sum: float = 0.0
    metrics: dict[str, tuple[int, float]] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    received_rewards: int = 0
    received_reward_sum: float = 0.0

    @property
    def labelled(self) -> int:
        """Predictions whose truth is known and comparable."""
        return self.correct + self.wrong

    @property
    def accuracy(self) -> float | None:
        """Share of correct predictions among those with a comparable truth; None if there are none."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def reward_mean(self) -> float | None:
        """Mean of the latest rewards; None if there are none."""
        return self.reward_sum / self.rewards if self.rewards else None

    def count(self, verdict: str, change: int) -> None:
        """Add `change` predictions to this verdict's count."""
        setattr(self, verdict, getattr(self, verdict) + change)


@dataclass(frozen=True, slots=True)
class CreditedFeedback:
    """Feedback on one prediction, for the guards. `outcomes`: by name, those that are new for this prediction.

    `mirrored_wrong`: whether the candidate was wrong on the same input, which was mirrored to it; None if unknown, or
    if both versions answered the same.
    """

    token: Token
    time_ns: int
    outcomes: Mapping[str, float]
    mirrored_wrong: bool | None


class _EarlierValue(NamedTuple):
    """A value that was given in an earlier run."""

    value: Any


class _RecentValues:
    """The last value of each of the latest `MAX_REMEMBERED` keys; keys that came first are evicted first."""

    def __init__(self) -> None:
        self._values: OrderedDict[int, Any] = OrderedDict()  # popping the first key of a dict gets slower and slower

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: int, value: Any) -> Any:
        """Store `value`; return the previous one, or NEW."""
        before = self._values.get(key, NO_VALUE)
        self._values[key] = value
        if len(self._values) > MAX_REMEMBERED:
            self._values.popitem(last=False)
        return before

    def get(self, key: int) -> Any:
        """Return the value, or NEW."""
        return self._values.get(key, NO_VALUE)


class FeedbackStats:
    """Counts feedback by model, version and variant (`by_version`), and buffers new feedback for the guards.

    `add` and `add_mirrors` are called in the writer thread; `by_version` and `take_new` are used by control's main
    thread.
    """

    def __init__(self, signer: Signer) -> None:
        self.by_version: dict[tuple[str, int, str], VersionFeedback] = {}
        self._signer = signer
        self._known = _RecentValues()
        self._discordant = _RecentValues()
        self._new: deque[CreditedFeedback] = deque(maxlen=MAX_BUFFERED)

    def load(self, folder: Path) -> None:
        """Load the latest feedback of earlier runs at the start, to recognise repetitions; it is not counted."""
        kept: list[list[tuple[int, Any]]] = []
        count = 0
        for path in reversed(segments(folder, FEEDBACK)):
            if count >= MAX_REMEMBERED:
                break
            kept.append(_parts_in(path))
            count += len(kept[-1])
        for said in reversed(kept):
            for key, value in said:
                self._known.put(key, _EarlierValue(value))

    def add(self, lines: bytes) -> None:
        """Count recorded feedback lines."""
        for record in _parsed(lines.splitlines()):
            try:
                token = self._signer.read(record["prediction_id"])
            except InvalidRequest:
                continue  # signed with an earlier run's key, which has been removed
            self._count(token, record)

    def add_mirrors(self, lines: bytes) -> None:
        """Remember the candidate's answers to mirrored requests, if they disagree with stable's."""
        for record in _parsed(lines.splitlines()):
            if record.get("agreement") is False and record.get("predicted") is not None:
                self._discordant.put(hash(record["prediction_id"]), record["predicted"])

    def take_new(self) -> list[CreditedFeedback]:
        """Return the new feedback since the last call, in order of arrival."""
        taken = []
        while self._new:
            taken.append(self._new.popleft())
        return taken

    def _count(self, token: Token, record: dict[str, Any]) -> None:
        credit = self.by_version.setdefault((token.model, token.version, token.variant), VersionFeedback())
        news = {part: (before, value) for part, before, value in self._changed_parts(record)}
        for (part, name), (before, value) in news.items():
            uncounted = before is NO_VALUE or before is EARLIER_RUN
            if part == TRUTH:
                credit.count(value, 1)
                if not uncounted:
                    credit.count(before, -1)
            elif part == REWARD:
                credit.rewards += uncounted
                credit.reward_sum += value - (0.0 if uncounted else before)
                credit.received_rewards += 1
                credit.received_reward_sum += value
            elif name in credit.metrics or len(credit.metrics) < MOST_METRICS:
                count, total = credit.metrics.get(name, (0, 0.0))
                credit.metrics[name] = count + uncounted, total + value - (0.0 if uncounted else before)
        if news:
            credit.received[news[_TRUTH][1] if _TRUTH in news else UNLABELLED] += 1
        self._buffer_evidence(token, record, news)

    def _changed_parts(self, record: dict[str, Any]) -> Iterator[tuple[Part, Any, Any]]:
        """Yield (part, value before, value now) for each part of a record that is new or has changed."""
        for key, part, value in _parts(record):
            before = self._known.put(key, value)
            if isinstance(before, _EarlierValue):
                if before.value == value:
                    self._known.put(key, before)  # unchanged, and still not counted in this run
                    continue
                before = EARLIER_RUN
            if before is NO_VALUE or before != value:
                yield part, before, value

    def _buffer_evidence(self, token: Token, record: dict[str, Any], news: Mapping[Part, tuple[Any, Any]]) -> None:
        """Buffer a prediction's outcomes for the guards: those of its first truth, of its first reward and of the first
        value of each metric, since each is evidence only once.
        """
        first = {part for part, (before, _) in news.items() if before is NO_VALUE}
        outcomes = {name: value for name, value in _outcomes(record).items() if _part_of(name) in first}
        if outcomes:
            self._new.append(CreditedFeedback(token, record["time_ns"], outcomes, self._mirrored_wrong(record)))

    def _mirrored_wrong(self, record: dict[str, Any]) -> bool | None:
        predicted, truth = self._discordant.get(hash(record["prediction_id"])), record.get("truth_class")
        return None if predicted is NO_VALUE or truth is None else predicted != truth


def _parts(record: dict[str, Any]) -> Iterator[tuple[int, Part, Any]]:
    """Yield (key, part, value) for each part of a record. The key identifies the part of this prediction."""
    prediction = record["prediction_id"]
    if record.get("truth") is not None:
        yield hash((prediction, TRUTH)), _TRUTH, _VERDICTS[record.get("correct")]
    if is_countable(record.get("reward")):
        yield hash((prediction, REWARD)), _REWARD, record["reward"]
    for name, value in (record.get("metrics") or {}).items():
        if is_countable(value):
            yield hash((prediction, METRIC, name)), (METRIC, name), value


def _outcomes(record: Mapping[str, Any]) -> dict[str, float]:
    """The outcomes in a record, by name. Records of gateways that named none have the class, reward and metrics."""
    named = record.get("outcomes")
    if not isinstance(named, dict):
        correct = record.get("correct")
        named = {"wrong": float(not correct), "loss": float(not correct)} if isinstance(correct, bool) else {}
        named[REWARD] = record.get("reward")
        named |= {f"{METRICS}{name}": value for name, value in (record.get("metrics") or {}).items()}
    return {name: float(value) for name, value in named.items() if is_countable(value)}


def _part_of(outcome: str) -> Part:
    """The part of the feedback that an outcome comes from."""
    if outcome == REWARD:
        return _REWARD
    return (METRIC, outcome.removeprefix(METRICS)) if outcome.startswith(METRICS) else _TRUTH


def _parts_in(path: Path) -> list[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            return [(key, value) for record in _parsed(file) for key, _, value in _parts(record)]
    except OSError as error:
        log.warning("the feedback in %s cannot be read; statistics start without it: %s", path, error.strerror)
        return []


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("prediction_id"), str):
            yield record
