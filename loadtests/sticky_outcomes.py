"""Simulated outcomes of sticky customers, of whom each counts once, judged by the code that is shipped.

A few send most of the requests. Feedback comes more often for one version: for more of the answers of each customer, or
from more of the customers, each of whom gives it on most answers. Evidence cannot tell the two apart.
"""

import math
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import NewUnits, Outcomes
from gateway.evidence.differences import Flags, Floats, Units
from gateway.evidence.intervals import EffectSums
from gateway.routing.buckets import BUCKETS
from loadtests.outcomes import LOOKS, MEAN, OUTCOMES, SPREAD, both_stopped, chances_of, stopped

Whole = npt.NDArray[np.int64]
CUSTOMERS: Final = 2000
VOLUME_CUSTOMERS: Final = 20_000
VOLUME_REQUESTS: Final = 150_000
HEAVY: Final = 5000  # of the customers, those who send most
MIDDLE: Final = slice(5000, 11_000)  # in the order of what they send
SOON_SEEN: Final = 0.05  # harm that fewer requests tell
ANSWERED: Final = 0.8  # of the answers of customers who give feedback
TOGETHER: Final = 1250  # requests, all of one weight, that are judged at once
RISING: Final = (0.1, 0.3, 0.6, 1.0)
ROUTE_WEIGHTS: Final = (1.0, 0.5, 2.0)  # times the weight of the ramp


def sticky(seed: int, ramp: bool = False) -> int | None:
    """A harmless candidate; a few of the customers send most of the requests, and each has a level of its own."""
    generator = np.random.default_rng(seed)
    buckets = generator.integers(0, BUCKETS, CUSTOMERS)
    busy = 1 / np.arange(1, CUSTOMERS + 1)
    who = generator.choice(CUSTOMERS, OUTCOMES, p=busy / busy.sum())
    levels = generator.beta(0.5, 1, CUSTOMERS)
    wrong = (generator.random(OUTCOMES) < levels[who]).astype(float)
    weights = (chances_of("ramp" if ramp else "0.1", OUTCOMES) * BUCKETS).astype(int)
    return both_stopped(_heard(who, np.full(OUTCOMES, True), buckets, weights, wrong, np.zeros(CUSTOMERS, int)))


def volume(seed: int, *given: float | str) -> int | None:
    """A harmless candidate, whose level goes with what a customer sends: see `volume_units`."""
    return both_stopped(volume_units(seed, *given))  # type: ignore[arg-type]


def volume_one_way(seed: int, thinned: bool, *given: float | str) -> int | None:
    """The same if the other way of counting were not asked."""
    new = volume_units(seed, *given)  # type: ignore[arg-type]
    return stopped(new.thinned_units if thinned else new.first_units)


def volume_covers(seed: int, *given: float | str) -> bool:
    """Whether the interval that spans those of both ways of counting holds 0 at every look."""
    new = volume_units(seed, *given)  # type: ignore[arg-type]
    ways = [(EffectSums((0.0, 1.0)), np.array(chances)) for chances in (new.chances, new.thinned)]
    values, candidate, routes = np.array(new.values), np.array(new.candidate), np.array(new.routes)
    ends = np.unique(np.geomspace(20, len(values), LOOKS).astype(int))
    for begin, end in pairwise([0, *ends.tolist()]):
        found = []
        for sums, chances in ways:
            all_units = Units(values[begin:end], candidate[begin:end], chances[begin:end], routes[begin:end])
            sums.add(all_units.part(all_units.chances > 0))
            found.append(sums.interval() or (-1.0, 1.0))
        if not min(low for low, _ in found) <= 0 <= max(high for _, high in found):
            return False
    return True


def volume_units(
    seed: int,
    candidate: float,
    stable: float,
    heavy: float,
    light: float,
    chance: str = "0.1",
    traffic: str = "zipf",
    of: str = "answers",
    tied: str = "heavy",
) -> NewUnits:
    """Of two equal versions, whose customers give feedback on these shares of their answers, or are these shares of all
    (`of`). The level of a customer goes with how much it sends: those HEAVY who send most, or in the MIDDLE, have
    another than the others; `routes`: on three routes of different weights.
    """
    generator = np.random.default_rng(seed)
    buckets, who = _requests(generator, traffic, VOLUME_REQUESTS)
    number = np.arange(VOLUME_CUSTOMERS)
    among = (number >= MIDDLE.start) & (number < MIDDLE.stop) if tied == "middle" else number < HEAVY
    levels = np.where(among, heavy, light)
    route = number % 3 if tied == "routes" else np.zeros(VOLUME_CUSTOMERS, int)
    weights = _weights(chance, np.array(ROUTE_WEIGHTS)[route[who]])
    given = _given(generator, buckets[who] < weights, who, (candidate, stable), of)
    wrong = (generator.random(VOLUME_REQUESTS) < levels[who]).astype(float)
    return _heard(who, given, buckets, weights, wrong, route)


def harmful(seed: int, candidate: float, stable: float, harm: float, chance: str) -> tuple[int | None, int | None]:
    """Customers until a candidate that is worse by `harm` is stopped, which gets feedback on these shares of answers.
    Levels do not go with what a customer sends. The second number: if first outcomes alone must show it.
    """
    generator = np.random.default_rng(seed)
    requests = VOLUME_REQUESTS if harm < SOON_SEEN else VOLUME_REQUESTS // 5
    buckets, who = _requests(generator, "zipf", requests)
    weights = _weights(chance, np.ones(requests))
    drawn = buckets[who] < weights
    given = _given(generator, drawn, who, (candidate, stable), "answers")
    values = np.clip(generator.normal(MEAN, SPREAD, requests) + harm * drawn, 0, 1)
    new = _heard(who, given, buckets, weights, values, np.zeros(VOLUME_CUSTOMERS, int))
    return both_stopped(new), stopped(new.first_units)


def _requests(generator: np.random.Generator, traffic: str, count: int) -> tuple[Whole, Whole]:
    """The customers' buckets, and who sends each request; those who send most are the first."""
    buckets = generator.integers(0, BUCKETS, VOLUME_CUSTOMERS)
    busy = 1 / np.arange(1, VOLUME_CUSTOMERS + 1)
    if traffic == "gamma":
        busy = np.sort(generator.gamma(0.5, size=VOLUME_CUSTOMERS) + 1e-9)[::-1]
    elif traffic == "lognormal":
        busy = np.sort(generator.lognormal(0, 1.5, VOLUME_CUSTOMERS))[::-1]
    elif traffic == "bimodal":
        busy = np.where(np.arange(VOLUME_CUSTOMERS) < VOLUME_CUSTOMERS // 10, 20.0, 1.0)
    return buckets, generator.choice(VOLUME_CUSTOMERS, count, p=busy / busy.sum())


def _weights(chance: str, times: Floats) -> Whole:
    """Of each request, in ppm."""
    if chance == "rising":
        chances = np.repeat(RISING, math.ceil(len(times) / len(RISING)))[: len(times)]
    else:
        chances = chances_of(chance, len(times))
    found: Whole = (np.minimum(chances * times, 1) * BUCKETS).astype(int)
    return found


def _given(generator: np.random.Generator, drawn: Flags, who: Whole, shares: tuple[float, float], of: str) -> Flags:
    """Whether feedback comes on each request."""
    comes = np.where(drawn, *shares)
    asked = generator.random(VOLUME_CUSTOMERS)[who] if of == "customers" else generator.random(len(who))
    answered = ANSWERED if of == "customers" else 1.0
    found: Flags = (asked < comes) & (generator.random(len(who)) < answered)
    return found


def _heard(who: Whole, given: Flags, buckets: Whole, weights: Whole, values: Floats, routes: Whole) -> NewUnits:
    """What counts of the feedback on these requests. `buckets`, `routes`: by customer. Feedback of who has counted at
    the present weight is left out: it makes no difference.
    """
    outcomes, found, counted_at = Outcomes(()), NewUnits(), np.full(len(buckets), -1)
    for begin in range(0, len(who), TOGETHER):
        rows = begin + np.flatnonzero(given[begin : begin + TOGETHER])
        rows = rows[counted_at[who[rows]] != weights[rows]]
        of = who[rows]
        columns = (one.tolist() for one in (rows, weights[rows], buckets[of], values[rows], routes[of], of))
        new = outcomes.ingest(
            [
                FeedbackEvent(0, row, weight, bucket < weight, bucket, {"wrong": value, "who": one}, route=str(route))
                for row, weight, bucket, value, route, one in zip(*columns, strict=True)
            ],
            0,
        )
        if new:
            found.add(new["wrong"])
            counted = new["who"].thinned_units.values.astype(int)
            last = dict(zip(of.tolist(), weights[rows].tolist(), strict=True))
            counted_at[counted] = [last[one] for one in counted.tolist()]
    return found
