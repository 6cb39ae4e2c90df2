"""The candidate beside stable: only rows that were drawn at random, each key once, whatever the ramp did meanwhile."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from gateway.evidence.effect import EffectVerdict as Verdict
from gateway.offline.analysis.metrics import metrics_of
from gateway.offline.analysis.slices import RescueCounts, worse
from gateway.offline.analysis.table import ExampleTable, Row
from gateway.offline.analysis.versions import Comparison, Pair, by_version, compare
from tests.offline.analysis.test_table import row

PAIR = Pair(1, 2)


def compared(rows: Iterable[Row], ranges: Any = None) -> Comparison | None:
    table = ExampleTable()
    for one in rows:
        table.add(one)
    return compare(table.columns(), PAIR, ranges or {})


def drawn(generator: Any, unit: int, share: float = 0.5, **fields: Any) -> dict[str, Any]:
    candidate = bool(generator.random() < share)
    chance = share if candidate else 1 - share
    return {"unit": unit, "candidate": candidate, "version": 2 if candidate else 1, "chance": chance, **fields}


def test_accuracy_is_better_where_fewer_are_wrong() -> None:
    generator = np.random.default_rng(1)

    def rows() -> Iterable[Row]:
        for unit in range(3000):
            one = drawn(generator, unit)
            wrong = float(generator.random() < (0.1 if one["candidate"] else 0.3))
            parts = {"customer": "ab"[unit % 2], "predicted class": str(unit % 3), "version": str(one["version"])}
            yield row(**one, parts=parts, outcomes={"wrong": wrong, "loss": wrong})

    found = compared(rows())
    assert found is not None
    (effect,) = found.effects
    assert (effect.metric.name, effect.verdict, effect.asymptotic) == ("accuracy", Verdict.BETTER, False)
    assert effect.low < 0.2 < effect.high
    assert effect.value == pytest.approx(0.2, abs=0.04)
    assert all(one.value > 0 for one in found.slices)
    assert effect.metric.of(effect.candidate)[0] == pytest.approx(0.9, abs=0.03)
    assert {(one.slice, one.verdict) for one in found.slices} == {("a", Verdict.BETTER), ("b", Verdict.BETTER)}


def test_ramp_while_the_level_rises_is_no_effect() -> None:
    generator = np.random.default_rng(2)

    def rows() -> Iterable[Row]:
        for unit in range(6000):
            share, level = ((0.05, 1.0), (0.25, 2.0), (0.5, 3.0))[unit // 2000]
            outcomes = {"reward": level + float(generator.normal(0, 0.3))}
            yield row(**drawn(generator, unit, share), parts={"customer": "ab"[unit % 2]}, outcomes=outcomes)

    found = compared(rows())
    assert found is not None
    assert [one.verdict for one in found.effects] == [Verdict.UNKNOWN]
    assert (found.slices, found.tested) == ([], 2)


def test_rows_that_were_not_drawn_at_random_are_left_out() -> None:
    generator = np.random.default_rng(3)
    fair = [row(**drawn(generator, unit), outcomes={"reward": 1.0}) for unit in range(100)]
    fixed = [
        row(200 + unit, version=version, candidate=version == 2, chance=chance, outcomes={"reward": 9.0})
        for unit, (version, chance) in enumerate([(2, 1.0), (1, 1.0), (1, 0.0), (3, 0.5)] * 50)
    ]
    found = compared([*fair, *fixed])
    assert found is not None
    assert found.rows == 100
    assert [(one.stable.value, one.candidate.value) for one in found.effects] == [(1.0, 1.0)]
    assert compared(fixed) is None


def test_key_is_one_unit_however_many_requests_it_makes() -> None:
    generator = np.random.default_rng(4)

    def rows() -> Iterable[Row]:
        for key in range(40):
            one, level = drawn(generator, 0), float(generator.normal())
            for number in range(50):
                yield row(**{**one, "unit": 50 * key + number}, key=key, outcomes={"reward": level})

    found = compared(rows())
    assert found is not None
    assert (found.rows, found.units) == (2000, 40)
    assert sum(one.stable.count + one.candidate.count for one in found.effects) == 40


def test_each_metric_counts_the_keys_of_its_own_rows() -> None:
    generator = np.random.default_rng(5)

    def rows() -> Iterable[Row]:
        for key in range(40):
            yield row(**drawn(generator, key), key=key, outcomes={"reward": float(generator.normal())})
        for key in range(40, 60):
            one = drawn(generator, 0)
            for number in (2 * key, 2 * key + 1):
                yield row(**{**one, "unit": number}, key=key, outcomes={"metrics.clicks": float(generator.normal())})

    found = compared(rows())
    assert found is not None
    counts = {one.metric.outcome: one.stable.count + one.candidate.count for one in found.effects}
    assert counts == {"reward": 40, "metrics.clicks": 20}


def test_versions_that_do_not_differ_are_seldom_said_to() -> None:
    """100 runs of 20 customers: about 5 may name one of them, whose losses are log-normal."""
    said = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        loss = generator.lognormal(0, 1, 600)
        found = compared(
            row(**drawn(generator, unit), parts={"customer": str(unit % 20)}, outcomes={"reward": float(loss[unit])})
            for unit in range(600)
        )
        assert found is not None
        said += bool(found.slices)
    assert said <= 10


def test_range_of_a_business_metric_makes_the_interval_exact() -> None:
    generator = np.random.default_rng(5)
    rows = [row(**drawn(generator, unit), outcomes={"metrics.paid": float(unit % 5)}) for unit in range(500)]
    for ranges, asymptotic in (({}, True), ({"metrics.paid": (0.0, 4.0)}, False)):
        found = compared(rows, ranges)
        assert found is not None
        (effect,) = found.effects
        assert (effect.asymptotic, effect.verdict, effect.low < 0 < effect.high) == (asymptotic, Verdict.UNKNOWN, True)


def test_metrics_of_several_outputs_have_their_prefix() -> None:
    zeros = np.zeros(3)
    names = ("loss", "squared_error", "error", "age.wrong", "age.loss", "metrics.age.loss", "reward")
    found = [(one.name, one.outcome) for one in metrics_of(dict.fromkeys(names, zeros))]
    assert found == [
        ("mae", "loss"),
        ("rmse", "squared_error"),
        ("bias", "error"),
        ("age.accuracy", "age.wrong"),
        ("reward", "reward"),
        ("metrics.age.loss", "metrics.age.loss"),
    ]


def test_metrics_are_labelled_as_in_the_console() -> None:
    zeros = np.zeros(3)
    names = ("loss", "squared_error", "error", "age.ndcg", "metrics.paid", "reward")
    assert [one.label for one in metrics_of(dict.fromkeys(names, zeros))] == [
        "MAE", "RMSE", "bias", "age NDCG", "age MRR", "reward", "paid",
    ]  # fmt: skip


def test_variant_is_no_slice_beside_its_version() -> None:
    generator = np.random.default_rng(6)
    table = ExampleTable()
    for unit in range(2000):
        one = drawn(generator, unit)
        parts = {"variant": "candidate" if one["candidate"] else "stable", "version": str(one["version"])}
        loss = float(generator.exponential(2.0 if one["candidate"] else 1.0))
        table.add(row(**one, parts=parts, outcomes={"loss": loss}))
    columns = table.columns()
    found, _ = worse(columns, RescueCounts())
    assert {(one.dimension, one.value) for one in found} == {("version", "2")}
    assert [one.version for one in by_version(columns)] == [1, 2]
