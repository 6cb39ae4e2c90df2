"""The betting e-process against the vectors of its design, and what keeps it valid."""

import numpy as np
import orjson
import pytest

from gateway.evidence.differences import OutcomeShares, Units, differences, units
from gateway.evidence.means import MeanDifference

VALUES = [0.9, 0.2, 0.3, 0.8, 0.1, 0.25, 0.95, 0.7, 0.4, 1.0]
CANDIDATE = [True, False, False, True, False, False, True, True, False, True]
VECTORS = [
    ([0.2] * 10, 0.0, [0, 0.085522, 0.138767, 0.433006, 0.529998, 0.586413, 1.05025, 1.232571, 1.261407, 1.653714]),
    ([0.2] * 10, 0.05, [0, 0.077874, 0.121391, 0.402609, 0.489621, 0.534908, 0.983244, 1.154062, 1.173189, 1.552679]),
    ([0.05] * 5 + [0.25] * 5, 0.0,
     [0, 0.018623, 0.03007, 0.324309, 0.345525, 0.38713, 0.655496, 0.777663, 0.804775, 1.092447]),
]  # fmt: skip


def one(index: int, chance: float) -> Units:
    return units([VALUES[index]], [CANDIDATE[index]], [chance])


@pytest.mark.parametrize(("chances", "tolerance", "expected"), VECTORS)
def test_reference_values(chances: list[float], tolerance: float, expected: list[float]) -> None:
    process, found = MeanDifference(tolerance), []
    for index, chance in enumerate(chances):
        process.add(one(index, chance))
        found.append(process.log_e)
    assert found == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize(("chances", "tolerance", "expected"), VECTORS)
def test_outcomes_that_come_together_count_as_those_that_come_one_by_one(
    chances: list[float], tolerance: float, expected: list[float]
) -> None:
    process = MeanDifference(tolerance)
    for part in (slice(0, 3), slice(3, 3), slice(3, 10)):
        process.add(units(VALUES[part], CANDIDATE[part], chances[part]))
        process = MeanDifference.from_json(orjson.loads(orjson.dumps(process.to_json())))
    assert process.log_e == pytest.approx(expected[-1], abs=5e-7)


def test_safety_is_harm_with_the_versions_exchanged() -> None:
    there, back = MeanDifference(0.05), MeanDifference(-0.05)
    there.add(units(VALUES, CANDIDATE, [0.2] * 10))
    back.add(units(VALUES, [not candidate for candidate in CANDIDATE], [0.8] * 10))
    assert (back.log_safe, back.log_e) == pytest.approx((there.log_e, there.log_safe))


@pytest.mark.parametrize("chance", [0.001, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("tolerance", [-0.9, -0.2, 0.0, 0.3])
@pytest.mark.parametrize("past", [[], [0.0] * 30, [1.0] * 30, [0.3] * 5])
def test_evidence_does_not_grow_on_average_while_the_harm_is_tolerated(
    chance: float, tolerance: float, past: list[float]
) -> None:
    """Two outcomes of an urn, in which the candidate's mean is exactly the tolerance above stable's."""
    process = MeanDifference(tolerance)
    process.add(units(past, [index % 3 == 0 for index in range(len(past))], [chance] * len(past)))
    stable = max(0.05, 0.05 - tolerance)
    means = {True: stable + tolerance, False: stable}
    mean, mean_safe = 0.0, 0.0
    for candidate, share in ((True, chance), (False, 1 - chance)):
        for value, odds in ((1.0, means[candidate]), (0.0, 1 - means[candidate])):
            later = MeanDifference.from_json(process.to_json())
            later.add(units([value], [candidate], [chance]))
            mean += share * odds * np.exp(later.log_e - process.log_e)
            mean_safe += share * odds * np.exp(later.log_safe - process.log_safe)
    assert mean == pytest.approx(1) and mean_safe == pytest.approx(1)


def test_no_difference_is_beyond_its_bounds() -> None:
    generator = np.random.default_rng(1)
    drawn = Units(generator.random(500), generator.random(500) < 0.3, generator.uniform(0.01, 0.99, 500))
    found = differences(drawn, generator.random(500))
    assert (found.values >= -found.low).all() and (found.values <= found.high).all()


def test_share_of_the_outcomes_that_come_starts_at_the_weight() -> None:
    shares = OutcomeShares()
    assert [shares.next(("r", 0.1), 0.1, candidate) for candidate in (True, True, False)] == pytest.approx(
        [0.1, 6 / 51, 7 / 52]
    )
    assert shares.next(("r", 0.2), 0.2, True) == pytest.approx(0.2), "another stratum"
    restored = OutcomeShares()
    restored.restore(orjson.loads(orjson.dumps(shares.to_json())))
    assert restored.next(("r", 0.1), 0.1, True) == shares.next(("r", 0.1), 0.1, True) == pytest.approx(7 / 53)
    shares.clear()
    assert shares.next(("r", 0.1), 0.1, True) == pytest.approx(0.1)


def test_restart_forgets_everything_but_the_tolerance() -> None:
    process = MeanDifference(0.05)
    process.add(units(VALUES, CANDIDATE, [0.2] * 10))
    process.restart()
    assert process == MeanDifference(0.05)
