"""Simulated outcomes of two versions, judged by the code that is shipped. Every run has its own seed."""

import math
from typing import Final

import numpy as np

from gateway.control.guards.evidence import reached
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import NewUnits, Outcomes
from gateway.evidence.differences import Flags, Floats, OutcomeShares, Units
from gateway.evidence.intervals import EffectSums
from gateway.evidence.means import MeanDifference
from gateway.settings.guards import ComparisonSettings
from loadtests.simulation import ALPHA

OUTCOMES: Final = 15_000  # of a run, each of them looked at
SHAPES: Final = ("gauss", "exponential", "pareto")
CHANCES: Final = (0.05, 0.1, 0.5)
RAMP: Final = (0.01, 0.05, 0.25, 0.5)
MEAN, SPREAD = 0.3, 0.15  # of stable's outcomes
DRIFT: Final = 0.3  # of both versions' level
DRIFT_OUTCOMES: Final = 8000
RATES: Final = {"candidate": 0.8, "stable": 0.4}  # of the answers that get feedback, if it comes unequally
LATER: Final = 2000  # requests by which the candidate's feedback comes later than stable's
ROUTES: Final = (*[(0.9, 2.0)] * 5, *[(0.1, 0.5)] * 5)  # level; times as often as feedback comes for the candidate
ROWS: Final = 100
WRONG: Final = 0.1  # of stable's answers
LOOKS: Final = 60  # at an interval, during a run


def drawn(generator: np.random.Generator, shape: str, count: int) -> Floats:
    """Outcomes with a mean of MEAN and a spread of SPREAD; a range of 0 to 1 clips the tail of the Pareto ones."""
    if shape == "gauss":
        values = generator.normal(MEAN, SPREAD, count)
    elif shape == "exponential":
        values = MEAN - SPREAD + generator.exponential(SPREAD, count)
    else:
        unit = math.sqrt(2.2 / (1.2**2 * 0.2))  # the spread of a Pareto with an exponent of 2.2
        values = MEAN + (generator.pareto(2.2, count) - 1 / 1.2) * SPREAD / unit
    found: Floats = np.clip(values, 0, 1)
    return found


def chances_of(name: str, count: int) -> Floats:
    """The weight of each request: one of CHANCES, or `ramp`."""
    if name == "ramp":
        return np.repeat(np.array(RAMP), -(-count // len(RAMP)))[:count]
    return np.full(count, float(name))


def shared(candidate: Flags, weights: Floats, shares: OutcomeShares | None = None) -> Floats:
    """The chance that each outcome is the candidate's, given how many of those before were."""
    shares = OutcomeShares() if shares is None else shares
    pairs = zip(weights.tolist(), candidate.tolist(), strict=True)
    return np.array([shares.next(weight, weight, one) for weight, one in pairs])


def bounded(seed: int, shape: str, chance: str, harm: float = 0.0) -> int | None:
    """Outcomes until the candidate, worse by `harm`, is stopped; None if it is not."""
    generator = np.random.default_rng(seed)
    weights = chances_of(chance, OUTCOMES)
    candidate = generator.random(OUTCOMES) < weights
    values = np.minimum(drawn(generator, shape, OUTCOMES) + harm * candidate, 1)
    return stopped(Units(values, candidate, shared(candidate, weights)))


def many_rows(seed: int) -> int | None:
    """A harmless candidate; each request has ROWS rows that are alike, and is one outcome: their mean."""
    generator = np.random.default_rng(seed)
    candidate = generator.random(OUTCOMES // 5) < 0.1
    levels = drawn(generator, "exponential", len(candidate))
    values = generator.binomial(ROWS, levels) / ROWS
    return stopped(Units(values, candidate, shared(candidate, np.full(len(candidate), 0.1))))


def rows_as_units(seed: int) -> int | None:
    """The same rows, as if each had been drawn on its own: what `many_rows` would be without units."""
    generator = np.random.default_rng(seed)
    candidate = np.repeat(generator.random(OUTCOMES // ROWS) < 0.1, ROWS)
    levels = np.repeat(drawn(generator, "exponential", OUTCOMES // ROWS), ROWS)
    values = (generator.random(len(levels)) < levels).astype(float)
    return stopped(Units(values, candidate, np.full(len(values), 0.1)))


def unequal(seed: int, harm: float = 0.0) -> int | None:
    """Feedback comes for RATES of the answers, while the level of both drifts."""
    generator = np.random.default_rng(seed)
    requests = round(DRIFT_OUTCOMES / (0.1 * RATES["candidate"] + 0.9 * RATES["stable"]))
    candidate = generator.random(requests) < 0.1
    level = DRIFT * np.arange(requests) / requests
    values = np.clip(drawn(generator, "gauss", requests) + level + harm * candidate, 0, 1)
    weights = np.full(requests, 0.1)
    given = generator.random(requests) < np.where(candidate, *RATES.values())
    values, candidate, weights = values[given], candidate[given], weights[given]
    return stopped(Units(values, candidate, shared(candidate, weights)))


def routes(seed: int, apart: bool = True) -> int | None:
    """A harmless candidate on routes that differ in level, and in how often feedback comes for the candidate.

    `apart`: with a baseline for each route.
    """
    generator = np.random.default_rng(seed)
    route = generator.integers(0, len(ROUTES), DRIFT_OUTCOMES)
    levels, ratios = np.array(ROUTES).T
    comes = 0.1 * ratios[route] / (0.1 * ratios[route] + 0.9)
    candidate = generator.random(DRIFT_OUTCOMES) < comes
    wrong = generator.random(DRIFT_OUTCOMES) < levels[route]
    shares = OutcomeShares()
    chances = [shares.next(of, 0.1, one) for of, one in zip(route.tolist(), candidate.tolist(), strict=True)]
    return stopped(Units(wrong.astype(float), candidate, np.array(chances), route.astype(np.str_) if apart else None))


def turning(seed: int, rises: bool) -> int | None:
    """A harmless candidate; after a third of the outcomes the level of both versions and how often feedback comes for
    the candidate change at once: twice as high as before, or half.
    """
    generator = np.random.default_rng(seed)
    late = (np.arange(DRIFT_OUTCOMES // 2) < DRIFT_OUTCOMES // 6) ^ rises  # when both are twice as high
    ratio, level = np.where(late, 2.0, 1.0), np.where(late, 0.6, 0.3)
    candidate = generator.random(len(late)) < 0.1 * ratio / (0.1 * ratio + 0.9)
    wrong = generator.random(len(late)) < level
    return stopped(Units(wrong.astype(float), candidate, shared(candidate, np.full(len(late), 0.1))))


def later(seed: int, delay: int) -> int | None:
    """Feedback comes LATER requests later for a harmless candidate, while the level of both falls. `delay`: requests
    that a prediction has to be old.
    """
    generator = np.random.default_rng(seed)
    candidate = generator.random(DRIFT_OUTCOMES) < 0.1
    level = DRIFT * (1 - np.arange(DRIFT_OUTCOMES) / DRIFT_OUTCOMES)
    values = np.clip(drawn(generator, "gauss", DRIFT_OUTCOMES) + level, 0, 1)
    wait = ComparisonSettings.model_validate({"name": "loss", "metric": "loss", "feedback_delay": f"{delay}s"})
    outcomes, found = Outcomes([wait]), NewUnits()
    comes = np.arange(DRIFT_OUTCOMES) + LATER * candidate
    for begin in range(0, DRIFT_OUTCOMES + LATER, LATER // 10):
        now = np.flatnonzero((comes >= begin) & (comes < begin + LATER // 10))
        events = [
            FeedbackEvent(0, index * 10**9, 100_000, bool(candidate[index]), None, {"loss": float(values[index])})
            for index in now[np.argsort(comes[now], kind="stable")].tolist()
        ]
        for new in outcomes.ingest(events, begin * 10**9).values():
            found.add(new)
    return both_stopped(found)


def truths(seed: int, ratio: float, errors: float) -> int | None:
    """Truths until the candidate is stopped, of 100,000 requests of which a tenth get one. `ratio`: how many times as
    often they come for the candidate, `errors`: how many times as often it is wrong.
    """
    generator = np.random.default_rng(seed)
    candidate = generator.random(100_000) < 0.1
    given = generator.random(100_000) < 0.1 * np.where(candidate, ratio, 1.0)
    candidate = candidate[given]
    wrong = generator.random(len(candidate)) < WRONG * np.where(candidate, errors, 1.0)
    return stopped(Units(wrong.astype(float), candidate, shared(candidate, np.full(len(candidate), 0.1))))


def covers(seed: int, chance: str, harm: float, known: bool) -> tuple[bool, bool]:
    """Whether the interval held the difference at every look, and whether it was clear of 0 at the end.

    `known`: the range of the outcomes.
    """
    generator = np.random.default_rng(seed)
    weights = chances_of(chance, OUTCOMES)
    candidate = generator.random(OUTCOMES) < weights
    values = drawn(generator, "exponential", OUTCOMES) * 0.9 + harm * candidate
    all_units = Units(values, candidate, shared(candidate, weights))
    sums, held = EffectSums((0.0, 1.0) if known else None), True
    ends = np.unique(np.geomspace(20, OUTCOMES, LOOKS).astype(int))
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        sums.add(all_units.part(slice(begin, end)))
        interval = sums.interval()
        held &= interval is None or interval[0] <= harm <= interval[1]
    interval = sums.interval()
    return held, interval is not None and not interval[0] <= 0 <= interval[1]


def t_test_finds(seed: int, chance: str, harm: float) -> bool:
    """Whether a fixed-horizon t-test at the end of the same run finds a difference, at the interval's level."""
    generator = np.random.default_rng(seed)
    candidate = generator.random(OUTCOMES) < chances_of(chance, OUTCOMES)
    values = drawn(generator, "exponential", OUTCOMES) * 0.9 + harm * candidate
    arms = values[candidate], values[~candidate]
    error = math.sqrt(sum(arm.var(ddof=1) / len(arm) for arm in arms))
    return bool(abs(arms[0].mean() - arms[1].mean()) > 1.96 * error)


def both_stopped(new: NewUnits) -> int | None:
    """Outcomes until the evidence of harm is enough both for each customer's first outcome and for those that thinning
    leaves; None if it never is.
    """
    chances = np.array([new.chances, new.thinned])
    paths = np.zeros(chances.shape)
    for path, one, units in zip(paths, chances, (new.first_units, new.thinned_units), strict=True):
        after = np.concatenate(([0.0], MeanDifference().add(units)))
        path[:] = after[np.cumsum(one > 0)]
    over = np.flatnonzero(paths.min(axis=0) >= -math.log(ALPHA))
    return int((chances[0, : over[0] + 1] > 0).sum()) if len(over) else None


def stopped(units: Units, tolerance: float = 0.0) -> int | None:
    """Outcomes until the evidence of harm is enough; None if it never is."""
    path = MeanDifference(tolerance).add(units)
    if not len(path) or not reached(float(path.max()), ALPHA):
        return None
    return int(np.searchsorted(np.maximum.accumulate(path), -math.log(ALPHA))) + 1
