"""Sums of one version's outcomes in one variant: its present feedback, and counters of all feedback that ever came."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from gateway.records.measures import METRICS, OutcomeSum
from gateway.settings.metric_names import COMPLAINT
from gateway.shm.tally import CLASSES

MOST_METRICS: Final = 32  # business metrics kept for each version, beside those that guards or model.yaml name
MOST_READ: Final = 1_000  # while records are read at the start, when it is not known yet which ones are named
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

    values: int = 0
    positive: float = 0.0
    negative: float = 0.0

    @property
    def total(self) -> float:
        return self.positive - self.negative


@dataclass(slots=True)
class OutcomeTally:
    """One outcome on one route: its present values, and all that have come (see ReceivedSum)."""

    count: int = 0
    total: float = 0.0
    received: int = 0
    positive: float = 0.0
    negative: float = 0.0


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
        """Return the sum with as many rows more, or fewer if negative; never fewer than none."""
        return ClassTruths(max(self.correct + correct, 0), max(self.wrong + wrong, 0))


ClassRows = tuple[tuple[int, int, int], ...]  # class index, rows predicted right, rows predicted wrong


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackSums:
    """The latest feedback on each prediction of a version in one variant, at one moment.

    `outcomes` by name, and again by route; `classes` by the true class's index, those from CLASSES - 1 on as one.
    """

    outcomes: Mapping[str, OutcomeSum] = field(default_factory=dict)
    routes: Mapping[str, Mapping[str, OutcomeSum]] = field(default_factory=dict)
    classes: Mapping[int, ClassTruths] = field(default_factory=dict)

    @property
    def labelled(self) -> int:
        """Predictions whose truth is known and right or wrong."""
        return self.outcomes.get("wrong", OutcomeSum()).values

    @property
    def accuracy(self) -> float | None:
        """Mean share of correct rows of the predictions with such a truth; None if there are none."""
        wrong = self.outcomes.get("wrong", OutcomeSum()).mean
        return None if wrong is None else 1.0 - wrong

    @property
    def reward_mean(self) -> float | None:
        """Mean of the latest rewards; None if there are none."""
        return self.outcomes.get("reward", OutcomeSum()).mean


class VersionFeedback:
    """One version's feedback in one variant: `sums`, which survive restarts, and counters of what has been received.

    Those count corrections again and begin with the process: they never fall, for windows and Prometheus. `received`
    counts items by verdict, `received_classes` rows by true class, `complaints` predictions complained of. One thread
    counts; any may read. `named`: outcomes that guards or model.yaml name; `reading`: it is not known yet which.
    """

    def __init__(self, kept: FeedbackSums = FeedbackSums()) -> None:
        self.received = dict.fromkeys(VERDICTS, 0)
        self.received_classes: dict[int, ClassTruths] = {}
        self.complaints = 0
        self.named: Container[str] = ()
        self.reading = False
        self._classes = dict(kept.classes)
        # those that nobody may have named, in the order in which they came
        self._names = dict.fromkeys(name for name in kept.outcomes if name.startswith(METRICS))
        self._routes = {
            route: {name: OutcomeTally(*one) for name, one in outcomes.items()}
            for route, outcomes in kept.routes.items()
        }

    @property
    def sums(self) -> FeedbackSums:
        """The latest feedback on each prediction."""
        routes = {
            route: {name: OutcomeSum(one.count, one.total) for name, one in tallies}
            for route, tallies in self._tallies()
        }
        outcomes: dict[str, OutcomeSum] = {}
        for of_route in routes.values():
            for name, one in of_route.items():
                outcomes[name] = outcomes.get(name, OutcomeSum()).plus(*one)
        return FeedbackSums(outcomes=outcomes, routes=routes, classes=dict(self._classes))

    def received_of(self, outcome: str) -> ReceivedSum:
        """What has been received of an outcome, on all routes."""
        found = [tallies[outcome] for tallies in list(self._routes.values()) if outcome in tallies]
        return (
            ReceivedSum(*(sum(column) for column in zip(*map(_received, found), strict=True)))
            if found
            else ReceivedSum()
        )

    def received_sums(self) -> dict[tuple[str, str], ReceivedSum]:
        """What has been received by route and outcome."""
        return {
            (route, name): _received(one) for route, tallies in self._tallies() for name, one in tallies if one.received
        }

    def put(
        self, route: str, before: Mapping[str, float], now: Mapping[str, float], received: Mapping[str, float]
    ) -> None:
        """Count a prediction's outcomes on this route. `before` and `now`: all that were counted of it, and that are
        to be counted of it from now on; `received`: those that feedback has just given. A new outcome has no value
        before, even if one is known: it was counted in sums that were dropped since.
        """
        self.complaints += bool(received.get(COMPLAINT)) and not before.get(COMPLAINT)
        tallies = self._routes.get(route)
        if tallies is None:
            route = route if len(self._routes) < MOST_ROUTES else OTHER_ROUTES
            tallies = self._routes.setdefault(route, {})
        for name, value in received.items():
            tally = tallies.get(name)
            if tally is None and not self._admits(name):
                continue
            if tally is not None and name in before:
                tally.total += now[name] - before[name]
            else:
                if tally is None:
                    tally = tallies[name] = OutcomeTally()
                tally.total += now[name]
                tally.count += 1
            tally.received += 1
            if value >= 0:
                tally.positive += value
            else:
                tally.negative -= value

    def put_classes(self, rows: ClassRows, before: ClassRows) -> None:
        """Count rows by their true class, instead of those that were counted for the same prediction `before`.

        Of sums that have been lost since, nothing is taken away.
        """
        for index, correct, wrong in before:
            _add(self._classes, index, -correct, -wrong)
        for index, correct, wrong in rows:
            _add(self._classes, index, correct, wrong)
            _add(self.received_classes, index, correct, wrong)

    def drop_unnamed(self, named: Container[str]) -> None:
        """Drop the business metrics that are not `named`, but for the first ones. May be called while others count."""
        for name in [name for name in list(self._names) if name not in named][MOST_METRICS:]:
            self._names.pop(name, None)
            for tallies in list(self._routes.values()):
                tallies.pop(name, None)

    def _admits(self, name: str) -> bool:
        """Whether the outcome is counted: clients choose the names of business metrics, so their number is bounded."""
        if name.startswith(METRICS) and name not in self.named and name not in self._names:
            if len(self._names) >= (MOST_READ if self.reading else MOST_METRICS):
                return False
            self._names[name] = None
        return True

    def _tallies(self) -> list[tuple[str, list[tuple[str, OutcomeTally]]]]:
        """A copy of the dictionaries, which the counting thread may fill meanwhile."""
        return [(route, list(tallies.items())) for route, tallies in list(self._routes.items())]


def _received(tally: OutcomeTally) -> ReceivedSum:
    return ReceivedSum(tally.received, tally.positive, tally.negative)


def class_rows(truths: Iterable[tuple[int, bool]]) -> ClassRows:
    """Count rows by true class. `truths`: the index of each row's true class, and whether it was predicted."""
    counted: dict[int, ClassTruths] = {}
    for index, correct in truths:
        _add(counted, min(index, CLASSES - 1), int(correct), int(not correct))
    return tuple((index, one.correct, one.wrong) for index, one in counted.items())


def _add(classes: dict[int, ClassTruths], index: int, correct: int, wrong: int) -> None:
    before = classes.get(index, ClassTruths())
    classes[index] = ClassTruths(max(0, before.correct + correct), max(0, before.wrong + wrong))
