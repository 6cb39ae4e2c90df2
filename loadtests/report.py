"""What a scenario reports: a table, a picture and a JSON file; and whether its targets are met."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import matplotlib
from rich.console import Console
from rich.table import Table

matplotlib.use("Agg")
from matplotlib import pyplot

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure: the gateway's values against the reference's, round by round, and what their ratio should be.

    `at_least` says on which side of `target` the ratio must lie. Units are in `unit`.
    """

    name: str
    unit: str
    reference: Sequence[float]
    gateway: Sequence[float]
    target: float
    at_least: bool

    @property
    def ratios(self) -> list[float]:
        return [ours / theirs for ours, theirs in zip(self.gateway, self.reference, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios: the two sides of a round were measured one after the other."""
        return median(self.ratios)

    @property
    def met(self) -> bool:
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


def report(scenario: str, lines: Sequence[Line]) -> bool:
    """Print, draw and write the lines; whether all targets are met."""
    console = Console()
    table = Table(title=scenario, title_justify="left")
    for heading in ("", "reference", "gateway", "ratio", "lowest to highest", "target", ""):
        table.add_column(heading)
    for line in lines:
        sign = "≥" if line.at_least else "≤"
        table.add_row(
            line.name,
            f"{median(line.reference):,.4g} {line.unit}",
            f"{median(line.gateway):,.4g} {line.unit}",
            f"{line.ratio:.3f}",
            f"{min(line.ratios):.2f} to {max(line.ratios):.2f}",
            f"{sign} {line.target}",
            "[green]met[/green]" if line.met else "[red]missed[/red]",
        )
    console.print(table)
    write(scenario, [{**asdict(line), "ratio": line.ratio, "met": line.met} for line in lines])
    _draw(scenario, lines)
    console.print(f"Written to {RESULTS / scenario}.json and .png")
    return all(line.met for line in lines)


def write(scenario: str, document: Any) -> None:
    """Write the figures as JSON."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{scenario}.json").write_text(json.dumps(document, indent=2) + "\n")


def _draw(scenario: str, lines: Sequence[Line]) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 1 + 0.7 * len(lines)), layout="constrained")
    for index, line in enumerate(reversed(lines)):
        axes.barh(index, line.ratio, color="tab:green" if line.met else "tab:red", alpha=0.6)
        axes.plot(line.ratios, [index] * len(line.ratios), "k.", markersize=4)
        axes.plot([line.target] * 2, [index - 0.4, index + 0.4], "k-", linewidth=2)
    axes.axvline(1.0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(lines)), [line.name for line in reversed(lines)])
    axes.set_xlabel("gateway / reference; the black line is the target, each dot a round")
    axes.set_title(scenario)
    figure.savefig(RESULTS / f"{scenario}.png", dpi=120)
    pyplot.close(figure)
