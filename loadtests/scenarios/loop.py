"""The loop: recorded traffic and its truths become a new version, which is judged, earns its traffic, is promoted."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from gateway.offline.statistics import Rate, percent
from loadtests.loop import GUARDS, Closed, Plan, Step, close
from loadtests.report import RESULTS, write
from loadtests.versus import Against, HeldOut

BETTER_AT: Final = 0.01  # p-value of the held-out images
BIN_S: Final = 1.0
MARKED: Final = (
    "gateway export",
    "models/digits/train.py --dataset",
    "gateway replay --version 2",
    "the ramp",
    "gateway promote",
)
Checks = dict[str, bool]


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`seconds` is how long the ramp stays at each weight."""
    console = Console(width=max(140, Console().width))
    console.print("[bold]loop[/bold]")
    closed = close(folder, Plan(interval_s=seconds), _shower(console))
    checks = _checks(closed)
    _print(console, closed.held_out)
    for name, met in checks.items():
        console.print(f"{'[green]met[/green]   ' if met else '[red]missed[/red]'} {name}")
    write("loop", _document(closed, checks))
    _draw(closed)
    console.print(f"Written to {RESULTS / 'loop'}.json and .png")
    return all(checks.values())


def _shower(console: Console) -> Callable[[Step], None]:
    def show(step: Step) -> None:
        console.print(f"{step.ended_s - step.began_s:6.1f} s  [bold]{step.name}[/bold]: {step.said}", highlight=False)

    return show


def _checks(closed: Closed) -> Checks:
    """What the loop must show, and whether it does."""
    held_out, replayed = closed.held_out, closed.replayed
    actions = [decision["action"] for decision in closed.decisions]
    return {
        f"better on images that neither has seen, p < {BETTER_AT}": held_out.stable.better
        and held_out.stable.p_value < BETTER_AT,
        "better than its own network without the traffic": held_out.network.better,
        "the replay said so before it met traffic": replayed["accuracy_now"]["low"] > replayed["accuracy_then"]["high"],
        "it rose by the ramp alone": actions.count("advance") == len(Plan().weights) - 1
        and actions.count("complete") == 1
        and "stop" not in actions,
        "a version from wrong truths was stopped by the guards": closed.stop["by"]
        in {guard["name"] for guard in GUARDS["comparisons"]},
        "no customer's request failed": not closed.failures,
    }


def _print(console: Console, held_out: HeldOut) -> None:
    title = f"{held_out.rate.count} held-out images"
    headings = ("", "right, with Wilson's 95% interval", "only version 2 is right", "only it is", "McNemar's p")
    table = Table(*headings, title=title, title_justify="left")
    for name, against in _others(held_out).items():
        counts = str(against.fixed), str(against.regressed), f"{against.p_value:.2g}"
        table.add_row(name, percent(against.rate), *counts)
    table.add_row("version 2", percent(held_out.rate))
    console.print(table)


def _others(held_out: HeldOut) -> dict[str, Against]:
    return {"version 1": held_out.stable, "version 2's network, without the traffic": held_out.network}


def _rates(held_out: HeldOut) -> dict[str, Rate]:
    return {**{name: against.rate for name, against in _others(held_out).items()}, "version 2": held_out.rate}


def _document(closed: Closed, checks: Checks) -> dict[str, Any]:
    rates = {
        name: {**asdict(rate), "low": rate.low, "high": rate.high} for name, rate in _rates(closed.held_out).items()
    }
    return {
        "steps": [{"name": step.name, "s": step.ended_s - step.began_s, "said": step.said} for step in closed.steps],
        "held_out": rates,
        "version_2_against": {
            name: {"fixed": against.fixed, "regressed": against.regressed, "p_value": against.p_value}
            for name, against in _others(closed.held_out).items()
        },
        "replayed": closed.replayed,
        "answers": len(closed.answers),
        "failures": closed.failures,
        "decisions": closed.decisions,
        "stop": closed.stop,
        "unearned": closed.unearned,
        "provenance": asdict(closed.provenance),
        "checks": checks,
    }


def _draw(closed: Closed) -> None:
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(14, 4), layout="constrained", gridspec_kw={"width_ratios": [1, 2]}
    )
    rates = _rates(closed.held_out)
    for index, rate in enumerate(reversed(rates.values())):
        left.barh(index, 100 * rate.value, color="tab:green" if index == 0 else "tab:grey", alpha=0.6)
        left.plot([100 * rate.low, 100 * rate.high], [index, index], "k-")
    left.set_yticks(range(len(rates)), [name.replace(", ", ",\n") for name in reversed(rates)])
    left.set_xlim(80, 100)
    left.set_xlabel(f"right, %, of {closed.held_out.rate.count} held-out images; lines: 95% intervals")
    _draw_time(right, closed)
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "loop.png", dpi=120)
    pyplot.close(figure)


def _draw_time(axes: Any, closed: Closed) -> None:
    """What customers got, second by second: the share of version 2, and how often the answers were right."""
    began_s = closed.answers[0].time_s
    bins: dict[int, list[Any]] = {}
    for answer in closed.answers:
        bins.setdefault(int((answer.time_s - began_s) / BIN_S), []).append(answer)
    numbers = sorted(bins)[:-1]  # the last second is not a whole one
    times, groups = [number * BIN_S for number in numbers], [bins[number] for number in numbers]
    failing = [100 * sum(answer.version == 3 for answer in group) / len(group) for group in groups]
    new = [100 * sum(answer.version == 2 for answer in group) / len(group) for group in groups]
    correct = [100 * sum(answer.correct for answer in group) / len(group) for group in groups]
    axes.fill_between(times, new, color="tab:green", alpha=0.3, label="answered by version 2", step="mid")
    axes.fill_between(times, failing, color="tab:red", alpha=0.5, label="by version 3", step="mid")
    axes.plot(times, correct, "k-", label="answers that were right")
    for step in (step for step in closed.steps if step.name in MARKED):
        axes.axvline(step.began_s - began_s, color="grey", linewidth=0.8, linestyle="--")
        axes.text(step.began_s - began_s, 2, f" {step.name}", rotation=90, fontsize=7, verticalalignment="bottom")
    axes.set_ylim(0, 101)
    axes.set_xlabel("seconds")
    axes.set_ylabel("% of the customers' requests")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, frameon=False)
