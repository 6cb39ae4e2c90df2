"""Guards in simulation: harmless candidates that are stopped by mistake, and how soon harmful ones are stopped."""

from pathlib import Path
from statistics import median
from typing import Any, Final

from matplotlib import pyplot
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import depletion, restarts, simulation, spread
from loadtests.report import RESULTS, write
from loadtests.simulation import ALPHA, BASE_RATE, failures_to_stop, run_all, upper_limit

MISTAKES: Final = {
    "stopped, each request on its own": simulation.plain,
    "stopped, sticky, some always fail": simulation.sticky,
    "stopped, the same under a ramp": simulation.ramping,
    "stopped, the same over twelve hosts": spread.spread,
    "stopped, sticky, evidence restarts": restarts.harmless_stopped,
    "stopped, three comparisons together": simulation.together,
    "paused, classes predicted alike": simulation.drifting,
    "called safe, fails 1.5 times as often": simulation.called_safe,
    "called safe, sticky, 1.5 and 1.6 times": depletion.worse_called_safe,
    "called safe, the same under a ramp": depletion.worse_called_safe_in_a_ramp,
}
NAIVE: Final = {
    "stopped, sticky, counted naively": simulation.naive,
    "stopped, sticky, twelve hosts' counts added": spread.added_up,
    "stopped, a tenth as often, keys remembered": restarts.better_stopped_by_firsts,
    "called safe, sticky, by first failures": depletion.worse_called_safe_by_firsts,
}
RUNS: Final = 5000
HARMFUL_RUNS: Final = 1001
MEDIANS: Final = {  # by weight and ratio: failures and requests, as simulated when the guards were designed
    (0.01, 2): (1298, 128_000),
    (0.01, 5): (125, 12_000),
    (0.01, 10): (46, 4_200),
    (0.05, 2): (284, 27_000),
    (0.05, 5): (31, 2_600),
    (0.05, 10): (14, 966),
    (0.1, 2): (164, 14_900),
    (0.1, 5): (20, 1_400),
    (0.1, 10): (9, 474),
    (0.5, 2): (83, 5_500),
    (0.5, 5): (20, 667),
    (0.5, 10): (14, 255),
}
WITHIN: Final = 0.2
LONGEST: Final = 4  # times the median, after which a run counts as not stopped


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` below 5 runs fewer."""
    part = min(rounds, 5) / 5
    mistakes, harmful = [], []
    with Progress(transient=True) as progress:
        task = progress.add_task("simulating", total=len(MISTAKES) + len(NAIVE) + len(MEDIANS))
        for name, simulate in MISTAKES.items():
            mistakes.append(_mistaken(name, simulate, round(RUNS * part), at_most=True))
            progress.advance(task)
        for name, simulate in NAIVE.items():
            mistakes.append(_mistaken(name, simulate, round(1000 * part), at_most=False))
            progress.advance(task)
        for cell in MEDIANS:
            harmful.append(_harmful(*cell, round(HARMFUL_RUNS * part)))
            progress.advance(task)
    _print(mistakes, harmful)
    write("guards", {"alpha": ALPHA, "base_rate": BASE_RATE, "mistakes": mistakes, "harmful": harmful})
    _draw(mistakes, harmful)
    Console().print(f"Written to {RESULTS / 'guards'}.json and .png")
    return all(row["met"] for row in (*mistakes, *harmful))


def _mistaken(name: str, simulate: Any, runs: int, *, at_most: bool) -> dict[str, Any]:
    """`at_most`: whether alpha must be kept. Naive counting must break it, or these runs could not tell."""
    made = sum(run_all(simulate, range(runs)))
    return {
        "name": name,
        "runs": runs,
        "made": made,
        "rate": made / runs,
        "upper": upper_limit(made, runs),
        "target": f"{'≤' if at_most else '>'} {ALPHA:.0%}",
        "met": (made / runs <= ALPHA) is at_most,
    }


def _harmful(share: float, ratio: float, runs: int) -> dict[str, Any]:
    failures, requests = MEDIANS[share, int(ratio)]
    found = run_all(failures_to_stop, range(runs), share, ratio, LONGEST * failures)
    medians = [median(values) for values in zip(*found, strict=True)]
    ratios = medians[0] / failures, medians[1] / requests
    return {
        "share": share,
        "ratio": ratio,
        "runs": runs,
        "failures": medians[0],
        "requests": medians[1],
        "expected_failures": failures,
        "expected_requests": requests,
        "met": all(abs(value - 1) <= WITHIN for value in ratios),
    }


def _print(mistakes: list[dict[str, Any]], harmful: list[dict[str, Any]]) -> None:
    table = Table(
        "harmless candidates", "runs", "stopped", "rate", "95% upper limit", "target", "", title_justify="left"
    )
    for row in mistakes:
        rate, upper = f"{row['rate']:.2%}", f"{row['upper']:.2%}"
        table.add_row(row["name"], f"{row['runs']:,}", str(row["made"]), rate, upper, row["target"], _mark(row))
    Console().print(table)
    table = Table("weight", "times as often", "failures to stop", "expected", "requests", "expected", "within 20%")
    for row in harmful:
        values = (row["failures"], row["expected_failures"], row["requests"], row["expected_requests"])
        table.add_row(f"{row['share']:.0%}", f"{row['ratio']:g}", *(f"{value:,.0f}" for value in values), _mark(row))
    Console().print(table)


def _mark(row: dict[str, Any]) -> str:
    return "[green]met[/green]" if row["met"] else "[red]missed[/red]"


def _draw(mistakes: list[dict[str, Any]], harmful: list[dict[str, Any]]) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for index, row in enumerate(reversed(mistakes)):
        left.barh(index, row["rate"] * 100, color="tab:green" if row["met"] else "tab:red", alpha=0.6)
        left.plot([row["rate"] * 100, row["upper"] * 100], [index, index], "k-")
    left.axvline(ALPHA * 100, color="black", linestyle="--", linewidth=0.8)
    left.set_yticks(range(len(mistakes)), [row["name"] for row in reversed(mistakes)])
    left.set_xscale("symlog", linthresh=1)
    left.set_xlabel("mistakes, %; the line ends at the 95% upper limit")
    for ratio in sorted({row["ratio"] for row in harmful}):
        rows = [row for row in harmful if row["ratio"] == ratio]
        shares = [row["share"] * 100 for row in rows]
        right.plot(shares, [row["failures"] for row in rows], "o-", label=f"fails {ratio:g} times as often")
        right.plot(shares, [row["expected_failures"] for row in rows], "kx")
    right.set_xscale("log")
    right.set_yscale("log")
    right.set_xlabel("weight, %; crosses: as expected")
    right.set_ylabel("median failures until it is stopped")
    right.legend()
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "guards.png", dpi=120)
    pyplot.close(figure)
