"""Sums of one version's outcomes in one variant: its present feedback, and counters of all feedback that ever came."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.records.measures import METRICS, OutcomeSum
from gateway.shm.tally import CLASSES

MOST_METRICS: Final = 32  # business metrics kept for each version
MOST_OUTCOMES: Final = 64  # other outcomes: those of several outputs
MOST_ROUTES: Final = 64  # routes told apart; those beyond are added up under OTHER_ROUTES
OTHER_ROUTES: Final = "(other routes)"
CORRECT: Final = "correct"
WRONG: Final = "wrong"
MEASURED: Final = "measured"  # a truth that the prediction is more or less far from: a number, a ranking
UNKNOWN: Final = "unknown"  # a truth that cannot be compared with the prediction
UNLABELLED: Final = "unlabelled"  # feedback without a truth
VERDICTS: Final = (CORRECT, WRONG, MEASURED, UNKNOWN, UNLABELLED)


class ReceivedSum(NamedTuple):
    """The values of an outcome that have come, corrections too: how many, and the sums of the positive ones and of
    the negative ones without their sign. None of them ever falls.
    """

    count: int = 0
    positive: float = 0.0
    negative: float = 0.0

    @property
    def total(self) -> float:
        return self.positive - self.negative

    def plus(self, value: float) -> "ReceivedSum":
        """Return the sum with one value more."""
        return ReceivedSum(self.count + 1, self.positive + max(value, 0.0), self.negative + max(-value, 0.0))


class ClassTruths(NamedTuple):
    """Rows whose true class this is, by whether the version predicted it."""

    correct: int = 0
    wrong: int = 0

    @property
    def recall(self) -> float | None:
        """The share of these rows that were predicted as this class; None without rows."""
        rows = self.correct + self.wrong
        return self.correct / rows if rows else None

    def plus(self, correct: int, wrong: int) -> "ClassTruths":
        """Return the sum with as many rows more, or fewer if negative."""
        return ClassTruths(self.correct + correct, self.wrong + wrong)


ClassRows = tuple[tuple[int, int, int], ...]  # class index, rows predicted right, rows predicted wrong


@dataclass(slots=True, kw_only=True)
class VersionFeedback:
    """One version's feedback in one variant. The latest feedback on a prediction replaces earlier feedback on it.

    `outcomes` by name, and again by route; `classes` by the true class's index, those from CLASSES - 1 on as one.
    They survive restarts. What is received (`received` by verdict, `received_sums` by outcome, `received_routes` by
    route and outcome, `received_classes` by class) counts corrections again and begins with the process: it never
    falls, for windows and Prometheus.

    Values in the dictionaries are replaced, never changed, so that `copy` can run in another thread.
    """

    outcomes: dict[str, OutcomeSum] = field(default_factory=dict)
    routes: dict[str, dict[str, OutcomeSum]] = field(default_factory=dict)
    classes: dict[int, ClassTruths] = field(default_factory=dict)
    received: dict[str, int] = field(default_factory=lambda: dict.fromkeys(VERDICTS, 0))
    received_sums: dict[str, ReceivedSum] = field(default_factory=dict)
    received_routes: dict[tuple[str, str], ReceivedSum] = field(default_factory=dict)
    received_classes: dict[int, ClassTruths] = field(default_factory=dict)

    @property
    def labelled(self) -> int:
        """Predictions whose truth is known and right or wrong."""
        return self.outcomes.get("wrong", OutcomeSum()).count

    @property
    def accuracy(self) -> float | None:
        """Mean share of correct rows of the predictions with such a truth; None if there are none."""
        wrong = self.outcomes.get("wrong", OutcomeSum()).mean
        return None if wrong is None else 1.0 - wrong

    @property
    def reward_mean(self) -> float | None:
        """Mean of the latest rewards; None if there are none."""
        return self.outcomes.get("reward", OutcomeSum()).mean

    def admitted(self, outcomes: Mapping[str, float]) -> dict[str, float]:
        """Return those outcomes that there is room for: clients choose the names of business metrics."""
        return {name: value for name, value in outcomes.items() if name in self.outcomes or self._has_room(name)}

    def _has_room(self, name: str) -> bool:
        business = name.startswith(METRICS)
        kept = sum(one.startswith(METRICS) == business for one in self.outcomes)
        return kept < (MOST_METRICS if business else MOST_OUTCOMES)

    def put(self, route: str, outcomes: Mapping[str, float], before: Mapping[str, float]) -> None:
        """Count the outcomes of a prediction on this route. `before`: what was counted of them earlier."""
        if route not in self.routes and len(self.routes) >= MOST_ROUTES:
            route = OTHER_ROUTES
        of_route = dict(self.routes.get(route, {}))
        for name, value in outcomes.items():
            change = (0, value - before[name]) if name in before else (1, value)
            self.outcomes[name] = self.outcomes.get(name, OutcomeSum()).plus(*change)
            of_route[name] = of_route.get(name, OutcomeSum()).plus(*change)
            self.received_sums[name] = self.received_sums.get(name, ReceivedSum()).plus(value)
            self.received_routes[route, name] = self.received_routes.get((route, name), ReceivedSum()).plus(value)
        self.routes[route] = of_route

    def put_classes(self, rows: ClassRows, before: ClassRows) -> None:
        """Count rows by their true class, instead of those that were counted for the same prediction `before`."""
        for index, correct, wrong in before:
            _add(self.classes, index, -correct, -wrong)
        for index, correct, wrong in rows:
            _add(self.classes, index, correct, wrong)
            _add(self.received_classes, index, correct, wrong)

    def copy(self) -> "VersionFeedback":
        """A copy that no thread changes."""
        return VersionFeedback(
            outcomes=dict(self.outcomes),
            routes=dict(self.routes),
            classes=dict(self.classes),
            received=dict(self.received),
            received_sums=dict(self.received_sums),
            received_routes=dict(self.received_routes),
            received_classes=dict(self.received_classes),
        )


def class_rows(truths: Iterable[tuple[int, bool]]) -> ClassRows:
    """Count rows by true class. `truths`: the index of each row's true class, and whether it was predicted."""
    counted: dict[int, ClassTruths] = {}
    for index, correct in truths:
        _add(counted, min(index, CLASSES - 1), int(correct), int(not correct))
    return tuple((index, one.correct, one.wrong) for index, one in counted.items())


def _add(classes: dict[int, ClassTruths], index: int, correct: int, wrong: int) -> None:
    classes[index] = classes.get(index, ClassTruths()).plus(correct, wrong)
