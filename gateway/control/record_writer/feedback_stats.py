"""What feedback says of each version: live counts, each prediction once, however often clients send it.

Lives in the control process, which sees the feedback of all workers. What is heard here also goes to the guards.
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

REMEMBERED: Final = 200_000  # predictions whose feedback is known again; beyond, a repetition counts anew
MOST_METRICS: Final = 32  # names of business metrics for each version
UNREAD: Final = 100_000  # what is heard and not yet taken: more is not evidence, but is counted
CORRECT: Final = "correct"
WRONG: Final = "wrong"
UNKNOWN: Final = "unknown"  # a truth that cannot be compared with the prediction
UNLABELLED: Final = "unlabelled"  # feedback without a truth
VERDICTS: Final = (CORRECT, WRONG, UNKNOWN, UNLABELLED)
TRUTH: Final = "truth"
REWARD: Final = "reward"
METRIC: Final = "metric"
NEW: Final = object()  # nothing was said before
FORMER: Final = object()  # something else was, in a run before this one, in which it is not counted
Part = tuple[str, str]  # what is said something of, and the metric's name
_TRUTH: Final[Part] = (TRUTH, "")
_REWARD: Final[Part] = (REWARD, "")
_VERDICTS: Final[Mapping[bool | None, str]] = {True: CORRECT, False: WRONG, None: UNKNOWN}
_WRONG: Final[Mapping[str, bool | None]] = {CORRECT: False, WRONG: True, UNKNOWN: None}
log: Final = logging.getLogger("gateway.control.record_writer")


@dataclass(slots=True)
class VersionFeedback:
    """One version's feedback in one variant, as it stands: what was said last of a prediction holds.

    `metrics`: count and sum for each name. What is `heard` counts corrections anew and never falls: how often each
    verdict was given, and rewards.
    """

    correct: int = 0
    wrong: int = 0
    unknown: int = 0
    rewards: int = 0
    reward_sum: float = 0.0
    metrics: dict[str, tuple[int, float]] = field(default_factory=dict)
    heard: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    heard_rewards: int = 0
    heard_reward_sum: float = 0.0

    @property
    def labelled(self) -> int:
        return self.correct + self.wrong

    @property
    def accuracy(self) -> float | None:
        """Of the predictions whose truth is known and can be compared; None where there is none."""
        return self.correct / self.labelled if self.labelled else None

    @property
    def reward_mean(self) -> float | None:
        return self.reward_sum / self.rewards if self.rewards else None

    def judge(self, verdict: str, change: int) -> None:
        """`change` predictions more of this verdict."""
        setattr(self, verdict, getattr(self, verdict) + change)


@dataclass(frozen=True, slots=True)
class CreditedFeedback:
    """Feedback on one prediction, for the guards. `wrong` is None without a truth that can be compared.

    `mirrored_wrong`: whether the candidate, which answered the same input in a mirror, was wrong; None: not known, or
    it had answered the same.
    """

    token: Token
    time_ns: int
    wrong: bool | None
    reward: float | None
    mirrored_wrong: bool | None


class _Former(NamedTuple):
    """What was said in a run before this one."""

    value: Any


class _Memory:
    """What was last said under each of the last `REMEMBERED` keys; those are forgotten first that came first."""

    def __init__(self) -> None:
        self._values: OrderedDict[int, Any] = OrderedDict()  # a dict takes ever longer to find its first key again

    def __len__(self) -> int:
        return len(self._values)

    def put(self, key: int, value: Any) -> Any:
        """Remember `value`; what was remembered before, or NEW."""
        before = self._values.get(key, NEW)
        self._values[key] = value
        if len(self._values) > REMEMBERED:
            self._values.popitem(last=False)
        return before

    def get(self, key: int) -> Any:
        """The value, or NEW."""
        return self._values.get(key, NEW)


class FeedbackStats:
    """The counts. `hear` and `hear_mirrors` are the writer thread's; `credits` and `take` are control's."""

    def __init__(self, signer: Signer) -> None:
        self.credits: dict[tuple[str, int, str], VersionFeedback] = {}
        self._signer = signer
        self._known = _Memory()
        self._discordant = _Memory()
        self._heard: deque[CreditedFeedback] = deque(maxlen=UNREAD)

    def remember(self, folder: Path) -> None:
        """Know the feedback of former runs again, as far as memory reaches; it is not counted."""
        kept: list[list[tuple[int, Any]]] = []
        count = 0
        for path in reversed(segments(folder, FEEDBACK)):
            if count >= REMEMBERED:
                break
            kept.append(_said_in(path))
            count += len(kept[-1])
        for said in reversed(kept):
            for key, value in said:
                self._known.put(key, _Former(value))

    def hear(self, lines: bytes) -> None:
        """Feedback that is recorded."""
        for record in _parsed(lines.splitlines()):
            try:
                token = self._signer.read(record["prediction_id"])
            except InvalidRequest:
                continue  # a former run's key has been removed since
            self._credit(token, record)

    def hear_mirrors(self, lines: bytes) -> None:
        """What mirrored requests came to: only where the versions disagree is there something to remember."""
        for record in _parsed(lines.splitlines()):
            if record.get("agreement") is False and record.get("predicted") is not None:
                self._discordant.put(hash(record["prediction_id"]), record["predicted"])

    def take(self) -> list[CreditedFeedback]:
        """What has been heard since the last call, in the order of arrival."""
        taken = []
        while self._heard:
            taken.append(self._heard.popleft())
        return taken

    def _credit(self, token: Token, record: dict[str, Any]) -> None:
        credit = self.credits.setdefault((token.model, token.version, token.variant), VersionFeedback())
        news = {part: (before, value) for part, before, value in self._news(record)}
        for (part, name), (before, value) in news.items():
            uncounted = before is NEW or before is FORMER
            if part == TRUTH:
                credit.judge(value, 1)
                if not uncounted:
                    credit.judge(before, -1)
            elif part == REWARD:
                credit.rewards += uncounted
                credit.reward_sum += value - (0.0 if uncounted else before)
                credit.heard_rewards += 1
                credit.heard_reward_sum += value
            elif name in credit.metrics or len(credit.metrics) < MOST_METRICS:
                count, total = credit.metrics.get(name, (0, 0.0))
                credit.metrics[name] = count + uncounted, total + value - (0.0 if uncounted else before)
        if news:
            credit.heard[news[_TRUTH][1] if _TRUTH in news else UNLABELLED] += 1
        self._pass_on(token, record, news)

    def _news(self, record: dict[str, Any]) -> Iterator[tuple[Part, Any, Any]]:
        """What a record says that was not said before: part by part, what was said before, what is said now."""
        for key, part, value in _parts(record):
            before = self._known.put(key, value)
            if isinstance(before, _Former):
                if before.value == value:
                    self._known.put(key, before)  # still not counted in this run
                    continue
                before = FORMER
            if before is NEW or before != value:
                yield part, before, value

    def _pass_on(self, token: Token, record: dict[str, Any], news: Mapping[Part, tuple[Any, Any]]) -> None:
        """To the guards, what is said of a prediction first: each counts as evidence once."""
        first = {part: value for part, (before, value) in news.items() if before is NEW}
        wrong = _WRONG[first.get(_TRUTH, UNKNOWN)]
        reward = first.get(_REWARD)
        if wrong is not None or reward is not None:
            self._heard.append(CreditedFeedback(token, record["time_ns"], wrong, reward, self._mirrored_wrong(record)))

    def _mirrored_wrong(self, record: dict[str, Any]) -> bool | None:
        predicted, truth = self._discordant.get(hash(record["prediction_id"])), record.get("truth_class")
        return None if predicted is NEW or truth is None else predicted != truth


def _parts(record: dict[str, Any]) -> Iterator[tuple[int, Part, Any]]:
    """What a record says, part by part, each with the key by which it is known again."""
    prediction = record["prediction_id"]
    if record.get("truth") is not None:
        yield hash((prediction, TRUTH)), _TRUTH, _VERDICTS[record.get("correct")]
    if is_countable(record.get("reward")):
        yield hash((prediction, REWARD)), _REWARD, record["reward"]
    for name, value in (record.get("metrics") or {}).items():
        if is_countable(value):
            yield hash((prediction, METRIC, name)), (METRIC, name), value


def _said_in(path: Path) -> list[tuple[int, Any]]:
    try:
        with path.open("rb") as file:
            return [(key, value) for record in _parsed(file) for key, _, value in _parts(record)]
    except OSError as error:
        log.warning("the feedback in %s is not known again: %s", path, error.strerror)
        return []


def _parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("prediction_id"), str):
            yield record
