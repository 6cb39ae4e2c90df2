"""What came of guards on live traffic: a table, a picture and a JSON file."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Final

from matplotlib import pyplot
from rich.console import Console
from rich.table import Table

from loadtests.crossing import Record
from loadtests.judged import SOUND, Rates, Row
from loadtests.report import RESULTS, write
from loadtests.twin import Climb

WITHIN_MS: Final = 100.0
Harm = Callable[[Record, Row], bool]


@dataclass(frozen=True, slots=True)
class Case:
    """A harmful candidate, and the guard that has to notice."""

    name: str
    guard: str
    candidate: Rates
    harm: Harm
    stable: Rates = SOUND
    weight: int | str = 20
    mirror: int = 0
    delay_s: float = 0.0
    connections: int = 8
    slow_ms: float = 250.0
    action: str = "stop"


@dataclass(frozen=True, slots=True)
class Found:
    """What came of one run, up to the guard's decision.

    `after_ms`: from the failure that crossed the line to the last request of the candidate.
    """

    by: str
    seconds: float
    requests: int
    candidates: int
    harmed: int
    failures: tuple[int, int] | None
    log10_e: float
    line: float
    after_ms: float | None
    recomputed: bool
    failed: int  # requests that stable would have answered


@dataclass(frozen=True, slots=True)
class Trips:
    """How many requests the candidate got in the worker that counted its failures, each time until `limit` was met."""

    limit: int
    asked: list[int]

    @property
    def met(self) -> bool:
        return bool(self.asked) and set(self.asked) == {self.limit}


Rows = Sequence[tuple[Case, Sequence[Found | None]]]


def tell(rows: Rows, trips: Trips, climb: Climb) -> bool:
    """Print, draw and write it; whether everything is as it should be."""
    console = Console(width=max(160, Console().width))
    table = Table(title="guards_live", title_justify="left")
    for heading in (
        "the candidate", "guard", "stopped by it", "requests", "to the candidate", "harmed", "seconds",
        "failures (candidate's)", "evidence, its line", "last request after", "recomputed", "failed", "",
    ):  # fmt: skip
        table.add_column(heading)
    for case, found in rows:
        table.add_row(*_cells(case, found), _mark(_met(case, found)))
    console.print(table)
    console.print(
        f"breaker at {trips.limit} failures: tripped {len(trips.asked)} times, the candidate's requests in that worker"
        f" each time: {sorted(set(trips.asked))} {_mark(trips.met)}"
    )
    console.print(
        f"harmless twin: {climb.seconds} s, {climb.predictions:,} predictions"
        f" ({climb.predictions / climb.seconds:,.0f}/s), {climb.candidates:,} by the candidate,"
        f" {climb.told:,} feedbacks ({climb.refused} lists refused for the moment), {climb.failed} failed;"
        f" decided: {', '.join(climb.actions)};"
        f" now {climb.stage} {climb.harm} {_mark(climb.met)}"
    )
    met = all(_met(case, found) for case, found in rows)
    cases = [
        {"name": case.name, "guard": case.guard, "found": [one and asdict(one) for one in found]}
        for case, found in rows
    ]
    write("guards_live", {"cases": cases, "breaker": asdict(trips), "twin": asdict(climb)})
    _draw(rows, climb)
    console.print(f"Written to {RESULTS / 'guards_live'}.json and .png")
    return met and trips.met and climb.met


def _met(case: Case, found: Sequence[Found | None]) -> bool:
    return all(
        one is not None
        and one.by == case.guard
        and one.recomputed
        and not one.failed
        and (one.after_ms is None or one.after_ms <= WITHIN_MS)
        for one in found
    )


def _cells(case: Case, found: Sequence[Found | None]) -> list[str]:
    there = [one for one in found if one is not None]
    if not there:
        return [case.name, case.guard, f"0 of {len(found)}", *[""] * 9]
    after = [one.after_ms for one in there if one.after_ms is not None]
    failures = [one.failures for one in there if one.failures is not None]
    return [
        case.name,
        case.guard,
        f"{sum(one.by == case.guard for one in there)} of {len(found)}",
        *(
            f"{median(values):,.0f}"
            for values in zip(*((o.requests, o.candidates, o.harmed) for o in there), strict=True)
        ),
        f"{median(one.seconds for one in there):.1f}",
        f"{median(map(sum, failures)):.0f} ({median(own for own, _ in failures):.0f})" if failures else "",
        f"10^{median(one.log10_e for one in there):.1f}, 10^{there[0].line:.1f}",
        f"{median(after):.0f} ms, at most {max(after):.0f}" if after else "",
        f"{sum(one.recomputed for one in there)} of {len(there)} agree",
        str(sum(one.failed for one in there)),
    ]


def _mark(met: bool) -> str:
    return "[green]met[/green]" if met else "[red]missed[/red]"


def _draw(rows: Rows, climb: Climb) -> None:
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4), layout="constrained")
    for index, (_, found) in enumerate(reversed(rows)):
        there = [one for one in found if one is not None]
        for values, colour in (([o.requests for o in there], "tab:grey"), ([o.harmed for o in there], "tab:red")):
            left.plot([value + 1 for value in values], [index] * len(values), "o", color=colour, alpha=0.6)
    left.set_xscale("log")
    left.set_yticks(range(len(rows)), [f"{case.name}\n({case.guard})" for case, _ in reversed(rows)])
    left.set_xlabel("until it was stopped, one more than: requests (grey), of them harmed (red)")
    seconds, weights = zip(*climb.weights, strict=True)
    right.step(seconds, weights, where="post", color="tab:green")
    right.set_xlabel("seconds")
    right.set_ylabel("weight of the harmless twin, %")
    RESULTS.mkdir(exist_ok=True)
    figure.savefig(RESULTS / "guards_live.png", dpi=120)
    pyplot.close(figure)
