"""Means in simulation: false stops, delays, truths at unequal rates, and the coverage and power of intervals."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import outcomes
from loadtests.report import RESULTS, write
from loadtests.simulation import ALPHA, run_all, upper_limit

RUNS: Final = 2000
NAIVE_RUNS: Final = 200
HARMFUL_RUNS: Final = 401
WITHIN: Final = 0.2
Case = tuple[str, Callable[..., Any], tuple[Any, ...]]
MISTAKES: Final[tuple[Case, ...]] = (
    *(
        (f"{shape}, weight {chance}", outcomes.bounded, (shape, chance))
        for shape in outcomes.SHAPES
        for chance in ("0.05", "0.1", "0.5", "ramp")
    ),
    ("a hundred rows a request", outcomes.many_rows, ()),
    ("sticky, a few send most", outcomes.sticky, (False,)),
    ("the same under a ramp", outcomes.sticky, (True,)),
    *(
        (
            f"sticky, level goes with volume ({heavy}, {light}), feedback {candidate:.0%} and {stable:.0%}, {chance}",
            outcomes.volume,
            (candidate, stable, heavy, light, chance),
        )
        for candidate, stable, heavy, light, chance in (
            (0.8, 0.4, 0.2, 0.6, "0.1"),
            (0.4, 0.8, 0.6, 0.2, "0.1"),
            (0.8, 0.2, 0.2, 0.6, "0.5"),
            (0.8, 0.4, 0.2, 0.6, "ramp"),
            (0.8, 0.2, 0.2, 0.6, "0.1"),
            (0.8, 0.4, 0.6, 0.2, "0.1"),
        )
    ),
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
        task = progress.add_task("simulating", total=len(MISTAKES) + len(NAIVE) + len(MEDIANS) + len(COVERED) + 6)
        for case in MISTAKES:
            rows.append(_mistaken(*case, runs=round(RUNS * share), at_most=True))
            progress.advance(task)
        for case in NAIVE:
            rows.append(_mistaken(*case, runs=round(NAIVE_RUNS * share), at_most=False))
            progress.advance(task)
        for name, simulate, arguments, expected in MEDIANS:
            rows.append(_delayed(name, simulate, arguments, expected, round(HARMFUL_RUNS * share)))
            progress.advance(task)
        for chance, known in COVERED:
            rows.append(_covered(chance, known, round(RUNS * share)))
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
    return {
        "name": f"interval holds the difference at all looks, weight {chance}{'' if known else ', range unknown'}",
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
