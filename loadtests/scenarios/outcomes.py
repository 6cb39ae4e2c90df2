"""Means in simulation: false stops, delays, truths at unequal rates, and the coverage and power of intervals."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import outcomes, sticky_outcomes
from loadtests.report import RESULTS, write
from loadtests.simulation import ALPHA, at_most, run_all, upper_limit

RUNS: Final = 2000
NAIVE_RUNS: Final = 200
HARMFUL_RUNS: Final = 401
STICKY_RUNS: Final = 300  # which take half a second each
STICKY_HARMFUL_RUNS: Final = 61
WITHIN: Final = 0.2
Price = tuple[float, float, float, str, int | None]
Case = tuple[str, Callable[..., Any], tuple[Any, ...]]
# Feedback for the candidate and stable; levels; weight; traffic.
VOLUMES: Final[tuple[tuple[float | str, ...], ...]] = (
    (0.8, 0.4, 0.2, 0.6, "0.1"),
    (0.4, 0.8, 0.6, 0.2, "0.1"),
    (0.8, 0.2, 0.2, 0.6, "0.5"),
    (0.8, 0.4, 0.2, 0.6, "ramp"),
    (0.8, 0.2, 0.2, 0.6, "0.05", "gamma"),
    (0.2, 0.8, 0.6, 0.2, "0.05", "lognormal"),
    (0.4, 0.8, 0.6, 0.2, "rising", "bimodal"),
    (0.2, 0.8, 0.6, 0.2, "0.1", "zipf", "answers", "routes"),
    (0.8, 0.2, 0.2, 0.6, "0.1", "gamma", "answers", "middle"),
    (0.8, 0.4, 0.6, 0.2, "0.1", "zipf", "customers"),
    (0.2, 0.8, 0.2, 0.6, "0.5", "zipf", "customers"),
    (0.4, 0.8, 0.2, 0.6, "rising", "gamma", "customers"),
)
MISTAKES: Final[tuple[Case, ...]] = (
    *(
        (f"{shape}, weight {chance}", outcomes.bounded, (shape, chance))
        for shape in outcomes.SHAPES
        for chance in ("0.05", "0.1", "0.5", "ramp")
    ),
    ("a hundred rows a request", outcomes.many_rows, ()),
    ("sticky, a few send most", sticky_outcomes.sticky, (False,)),
    ("the same under a ramp", sticky_outcomes.sticky, (True,)),
    ("feedback at 80% and 40%, level drifts", outcomes.unequal, ()),
    ("routes of other levels, feedback twice and half as often", outcomes.routes, ()),
    ("feedback twice as often once the level has doubled", outcomes.turning, (True,)),
    ("half as often once it has halved", outcomes.turning, (False,)),
    ("feedback later, level drifts, feedback_delay", outcomes.later, (outcomes.LATER,)),
    ("truths as often", outcomes.truths, (1.0, 1.0)),
    ("truths twice as often", outcomes.truths, (2.0, 1.0)),
    ("truths half as often", outcomes.truths, (0.5, 1.0)),
)
NAIVE: Final[tuple[Case, ...]] = (
    ("rows as units", outcomes.rows_as_units, ()),
    ("routes of other levels, one baseline", outcomes.routes, (False,)),
    ("feedback later, no feedback_delay", outcomes.later, (0,)),
    (
        "sticky, fewer answers get feedback, by first outcomes alone",
        sticky_outcomes.volume_one_way,
        (False, *VOLUMES[2]),
    ),
    ("sticky, fewer customers give feedback, thinned alone", sticky_outcomes.volume_one_way, (True, *VOLUMES[10])),
)
PRICES: Final[
    tuple[Price, ...]
] = (  # feedback for the candidate and stable, harm, weight; customers as designed at equal rates
    *((0.8, 0.8, harm, chance, expected) for harm, chance, expected in ((0.06, "0.1", 735), (0.15, "0.5", 97))),
    (0.8, 0.8, 0.06, "ramp", None),
    *(
        (*rates, 0.06, chance, None)
        for rates in ((0.4, 0.8), (0.8, 0.4), (0.2, 0.8), (0.8, 0.2))
        for chance in ("0.1", "0.5")
    ),
)
MEDIANS: Final[tuple[tuple[str, Callable[..., Any], tuple[Any, ...], int], ...]] = (
    *(
        (f"mean .30 to {0.3 + harm:.2f}, weight {chance}", outcomes.bounded, ("gauss", chance, harm), expected)
        for harm, row in ((0.03, (5032, 2804, 916)), (0.06, (1371, 735, 295)), (0.15, (467, 250, 97)))
        for chance, expected in zip(("0.05", "0.1", "0.5"), row, strict=True)
    ),
    ("truths as often, twice as wrong", outcomes.truths, (1.0, 2.0), 1577),
    ("truths half as often, twice as wrong", outcomes.truths, (0.5, 2.0), 2872),
)
COVERED: Final = (("0.05", True), ("0.1", True), ("0.5", True), ("ramp", True), ("0.1", False), ("ramp", False))
POWERED: Final = ("0.1", "0.5")
EFFECTS: Final = {"0.1": (0.008, 0.011, 0.016), "0.5": (0.005, 0.007, 0.01)}


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` below 5 runs fewer."""
    share = min(rounds, 5) / 5
    rows: list[dict[str, Any]] = []
    with Progress(transient=True) as progress:
        task = progress.add_task(
            "simulating", total=sum(map(len, (MISTAKES, VOLUMES, NAIVE, MEDIANS, PRICES, COVERED, VOLUMES[::3]))) + 6
        )
        for case in MISTAKES:
            rows.append(_mistaken(*case, runs=round(RUNS * share), at_most=True))
            progress.advance(task)
        for given in VOLUMES:
            rows.append(_mistaken_sticky(given, round(STICKY_RUNS * share)))
            progress.advance(task)
        for case in NAIVE:
            rows.append(_mistaken(*case, runs=round(NAIVE_RUNS * share), at_most=False))
            progress.advance(task)
        for name, simulate, arguments, expected in MEDIANS:
            rows.append(_delayed(name, simulate, arguments, expected, round(HARMFUL_RUNS * share)))
            progress.advance(task)
        for price in PRICES:
            rows.append(_priced(price, round(STICKY_HARMFUL_RUNS * share)))
            progress.advance(task)
        for chance, known in COVERED:
            rows.append(_covered(chance, known, round(RUNS * share)))
            progress.advance(task)
        for given in VOLUMES[::3]:
            held = sum(run_all(sticky_outcomes.volume_covers, range(round(STICKY_RUNS * share)), *given))
            rows.append(_held(f"sticky, {', '.join(map(str, given))}", held, round(STICKY_RUNS * share)))
            progress.advance(task)
        for chance in POWERED:
            for harm in EFFECTS[chance]:
                rows.append(_powerful(chance, harm, round(HARMFUL_RUNS * share)))
                progress.advance(task)
    table = Table("what", "runs", "found", "target", "")
    for row in rows:
        mark = "[green]met[/green]" if row["met"] else "[red]missed[/red]"
        table.add_row(row["name"], f"{row['runs']:,}", row["found"], row["target"], mark)
    Console().print(table)
    write("outcomes", {"alpha": ALPHA, "rows": rows})
    Console().print(f"Written to {RESULTS / 'outcomes'}.json")
    return all(row["met"] for row in rows)


def _mistaken(name: str, simulate: Any, arguments: tuple[Any, ...], *, runs: int, at_most: bool) -> dict[str, Any]:
    """`at_most`: whether alpha must be kept. Naive counting must break it, or these runs could not tell."""
    made = sum(found is not None for found in run_all(simulate, range(runs), *arguments))
    return {
        "name": f"harmless, stopped: {name}",
        "runs": runs,
        "made": made,
        "found": f"{made / runs:.2%} (at most {upper_limit(made, runs):.2%})",
        "target": f"{'≤' if at_most else '>'} {ALPHA:.0%}",
        "met": (made / runs <= ALPHA) is at_most,
    }


def _mistaken_sticky(given: tuple[float | str, ...], runs: int) -> dict[str, Any]:
    """Met unless so many would be stopped in less than one of twenty such simulations at a rate of alpha."""
    row = _mistaken("", sticky_outcomes.volume, given, runs=runs, at_most=True)
    name = f"harmless, stopped: sticky, level goes with volume: {', '.join(map(str, given))}"
    return {**row, "name": name, "met": at_most(row["made"] - 1, runs, ALPHA) < 0.95}


def _priced(price: Price, runs: int) -> dict[str, Any]:
    """Customers to the stop, and how many it takes if only each one's first outcome counts."""
    candidate, stable, harm, chance, expected = price
    found = run_all(sticky_outcomes.harmful, range(runs), *price[:4])
    both, first = (
        [sticky_outcomes.VOLUME_CUSTOMERS if one is None else one for one in row] for row in zip(*found, strict=True)
    )
    rates = f"{candidate:.0%} and {stable:.0%}"
    return {
        "name": f"harmful by {harm:g}, customers to the stop: weight {chance}, feedback {rates}",
        "runs": runs,
        "median": median(both),
        "first_only": median(first),
        "found": f"{median(both):,.0f}; {median(first):,.0f} by first outcomes alone",
        "target": "" if expected is None else f"{expected:,} ± 20%",
        "met": expected is None or abs(median(both) / expected - 1) <= WITHIN,
    }


def _delayed(name: str, simulate: Any, arguments: tuple[Any, ...], expected: int, runs: int) -> dict[str, Any]:
    found = run_all(simulate, range(runs), *arguments)
    middle = median(outcomes.OUTCOMES if after is None else after for after in found)
    missed = sum(after is None for after in found)
    return {
        "name": f"harmful, outcomes to the stop: {name}",
        "runs": runs,
        "median": middle,
        "missed": missed,
        "found": f"{middle:,.0f} (not stopped: {missed})",
        "target": f"{expected:,} ± 20%",
        "met": abs(middle / expected - 1) <= WITHIN,
    }


def _covered(chance: str, known: bool, runs: int) -> dict[str, Any]:
    held = sum(held for held, _ in run_all(outcomes.covers, range(runs), chance, 0.03, known))
    return _held(f"weight {chance}{'' if known else ', range unknown'}", held, runs)


def _held(name: str, held: int, runs: int) -> dict[str, Any]:
    return {
        "name": f"interval holds the difference at all looks, {name}",
        "runs": runs,
        "held": held,
        "found": f"{held / runs:.2%}",
        "target": "≥ 95%",
        "met": held / runs >= 0.95,
    }


def _powerful(chance: str, harm: float, runs: int) -> dict[str, Any]:
    exact, asymptotic = (
        sum(clear for _, clear in run_all(outcomes.covers, range(runs), chance, harm, known)) / runs
        for known in (True, False)
    )
    fixed = sum(run_all(outcomes.t_test_finds, range(runs), chance, harm)) / runs
    return {
        "name": f"difference of {harm:g} seen after {outcomes.OUTCOMES:,} outcomes, weight {chance}",
        "runs": runs,
        "exact": exact,
        "asymptotic": asymptotic,
        "fixed": fixed,
        "found": f"{exact:.0%}; range unknown {asymptotic:.0%}; t-test once, at the end {fixed:.0%}",
        "target": "",
        "met": True,
    }
