"""What feedback says of each version: live counts, each prediction's truth once, however often clients send it.

Lives in the control process, which sees the feedback of all workers. What is heard here also goes to the guards.
"""

from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.errors import InvalidRequest
from gateway.records.segments import FEEDBACK, segments
from gateway.records.token import Signer, Token

REMEMBERED: Final = 200_000  # predictions whose feedback is known again; beyond, a repetition counts anew
MOST_METRICS: Final = 32  # names of business metrics for each version
UNREAD: Final = 100_000  # what is heard and not yet taken: more is not evidence, but is counted


@dataclass(slots=True)
class Credit:
    """One version's feedback in one variant. `metrics`: count and sum for each name."""

    correct: int = 0
    wrong: int = 0
    unknown: int = 0
    rewards: int = 0
    reward_sum: float = 0.0
    metrics: dict[str, tuple[int, float]] = field(default_factory=dict)

    @property
    def labelled(self) -> int:
        return self.correct + self.wrong


@dataclass(frozen=True, slots=True)
class Heard:
    """Feedback on one prediction, for the guards. `wrong` is None without a truth that can be compared.

    `mirrored_wrong`: whether the candidate, which answered the same input in a mirror, was wrong; None: not known, or
    it had answered the same.
    """

    token: Token
    time_ns: int
    wrong: bool | None
    reward: float | None
    mirrored_wrong: bool | None


class _Memory:
    """The last `REMEMBERED` keys, oldest forgotten first."""

    def __init__(self) -> None:
        self._values: dict[Hashable, Any] = {}

    def add(self, key: Hashable, value: Any = None) -> bool:
        """Remember `key`; False where it was known already."""
        if key in self._values:
            return False
        self._values[key] = value
        if len(self._values) > REMEMBERED:
            del self._values[next(iter(self._values))]
        return True

    def get(self, key: Hashable) -> Any:
        return self._values.get(key)


class Ledger:
    """The counts. `hear` and `hear_mirrors` are the writer thread's; `credits` and `take` are control's."""

    def __init__(self, signer: Signer) -> None:
        self.credits: dict[tuple[str, int, str], Credit] = {}
        self._signer = signer
        self._known = _Memory()
        self._discordant = _Memory()
        self._heard: deque[Heard] = deque(maxlen=UNREAD)

    def remember(self, folder: Path) -> None:
        """Know the feedback of former runs again, as far as memory reaches; it is not counted."""
        lines: deque[bytes] = deque(maxlen=REMEMBERED)
        for path in segments(folder, FEEDBACK):
            with path.open("rb") as file:
                lines.extend(file)
        for record in _parsed(b"".join(lines)):
            for key, _ in _parts(record):
                self._known.add(key)

    def hear(self, lines: bytes) -> None:
        """Feedback that is recorded."""
        for record in _parsed(lines):
            try:
                token = self._signer.read(record["prediction_id"])
            except InvalidRequest:
                continue  # a former run's key has been removed since
            self._credit(token, record)

    def hear_mirrors(self, lines: bytes) -> None:
        """What mirrored requests came to: only where the versions disagree is there something to remember."""
        for record in _parsed(lines):
            if record.get("agreement") is False and record.get("predicted") is not None:
                self._discordant.add(record["prediction_id"], record["predicted"])

    def take(self) -> list[Heard]:
        """What has been heard since the last call, in the order of arrival."""
        taken = []
        while self._heard:
            taken.append(self._heard.popleft())
        return taken

    def _credit(self, token: Token, record: dict[str, Any]) -> None:
        credit = self.credits.setdefault((token.model, token.version, token.variant), Credit())
        new = dict(value for key, value in _parts(record) if self._known.add(key))
        wrong, reward = None, new.get("reward")
        if "truth" in new:
            correct = record.get("correct")
            wrong = None if correct is None else not correct
            credit.correct += correct is True
            credit.wrong += correct is False
            credit.unknown += correct is None
        if reward is not None:
            credit.rewards += 1
            credit.reward_sum += reward
        for name, value in new.get("metrics", {}).items():
            if name in credit.metrics or len(credit.metrics) < MOST_METRICS:
                count, total = credit.metrics.get(name, (0, 0.0))
                credit.metrics[name] = count + 1, total + value
        if wrong is not None or reward is not None:
            self._heard.append(Heard(token, record["time_ns"], wrong, reward, self._mirrored_wrong(record)))

    def _mirrored_wrong(self, record: dict[str, Any]) -> bool | None:
        predicted, truth = self._discordant.get(record["prediction_id"]), record.get("truth_class")
        return None if predicted is None or truth is None else predicted != truth


def _parts(record: dict[str, Any]) -> Iterator[tuple[Hashable, tuple[str, Any]]]:
    """What a record says, part by part, each with the key by which a repetition is known."""
    prediction = hash(record["prediction_id"])
    if record.get("truth") is not None:
        yield (prediction, "truth"), ("truth", record["truth"])
    if record.get("reward") is not None:
        yield (prediction, "reward"), ("reward", record["reward"])
    if record.get("metrics"):
        yield (prediction, "metrics"), ("metrics", record["metrics"])


def _parsed(lines: bytes) -> Iterator[dict[str, Any]]:
    for line in lines.splitlines():
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("prediction_id"), str):
            yield record
