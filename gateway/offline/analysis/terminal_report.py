"""Renders an error analysis for the terminal."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gateway.offline.analysis.analyzer import Analysis
from gateway.offline.analysis.hard_examples import HardExample
from gateway.offline.analysis.label_conflicts import LabelConflict
from gateway.offline.analysis.slices import FALSE_DISCOVERY_RATE
from gateway.offline.statistics import percent
from gateway.records.time_range import format_time

MAX_SHOWN: Final = 10  # entries of each list; the JSON and HTML reports have all
ID_WIDTH: Final = 12  # enough to distinguish ids; a whole id would take six lines of a narrow terminal


def tables(analysis: Analysis) -> Iterator[RenderableType]:
    """Yield the findings as tables, the most important first."""
    yield _summary(analysis)
    yield _slices(analysis) if analysis.slices else no_slices(analysis)
    if analysis.conflicts:
        yield _conflicts(analysis)
    if analysis.least_confident:
        yield _examples("Least confident, and not labelled yet", analysis, analysis.least_confident)
    if analysis.disagreements:
        yield _examples("The candidate disagrees, and there is no label", analysis, analysis.disagreements)


def facts(analysis: Analysis) -> list[tuple[str, str]]:
    """Return the summary as (name, value) lines."""
    agreement = analysis.agreement
    lines = [
        (
            "predictions",
            f"{analysis.rows:,} from {format_time(analysis.first_ns)[:19]} to {format_time(analysis.last_ns)[:19]} UTC",
        ),
        ("outcomes", ", ".join(f"{outcome} {count:,}" for outcome, count in analysis.outcomes.items())),
        ("wrong", f"{percent(analysis.wrong)} of {analysis.wrong.count:,} with a truth"),
        ("rescued", f"{percent(analysis.rescued)} of {analysis.rescued.count:,} that were the candidate's"),
        ("contradicting labels", f"on {analysis.contradicted:,} different inputs"),
    ]
    if agreement.same.count:
        labelled = f"stable {agreement.stable_right:,}, candidate {agreement.candidate_right:,}"
        lines.append(("mirrored", f"{percent(agreement.same)} agree; right where they do not: {labelled}"))
    return lines


def no_slices(analysis: Analysis) -> str:
    """The sentence to show if no slice is significantly worse."""
    return f"None of {analysis.tested:,} slices is significantly worse than the rest ({_about_q()})."


def _about_q() -> str:
    return f"at most {FALSE_DISCOVERY_RATE:.0%} false discoveries"


def _summary(analysis: Analysis) -> Table:
    table = Table(title=f"{analysis.model}: error analysis", title_justify="left", show_header=False)
    for name, value in facts(analysis):
        table.add_row(name, escape(value))
    return table


def _slices(analysis: Analysis) -> Table:
    title = f"Worse than the rest: {len(analysis.slices)} of {analysis.tested:,} slices, {_about_q()}"
    table = _table(title, ("", "slice", "rows", "rate [95%]", "the rest", "p", "q"))
    for one in analysis.slices[:MAX_SHOWN]:
        table.add_row(
            one.measure,
            escape(f"{one.dimension}: {one.value}"),
            f"{one.rate.count:,}",
            escape(percent(one.rate)),
            f"{100 * one.rest.value:.1f}%",
            f"{one.p_value:.2g}",
            f"{one.q_value:.2g}",
        )
    return table


def _conflicts(analysis: Analysis) -> Table:
    table = _table(f"Equal inputs, contradicting labels: {analysis.contradicted:,}", ("input", "labels, by whom"))
    for conflict in analysis.conflicts[:MAX_SHOWN]:
        table.add_row(escape(shown_input(conflict)), escape(labels_text(analysis, conflict)))
    return table


def shown_input(conflict: LabelConflict) -> str:
    """The text of a conflict's input, or the first prediction's id if it has no text."""
    return conflict.input.text or f"of prediction {conflict.labels[0].prediction_id}"


def labels_text(analysis: Analysis, conflict: LabelConflict) -> str:
    """Format the labels of a conflict, each with the customers who gave it."""
    by: dict[str, list[str]] = {}
    for one in conflict.labels:
        label = one.label
        name = str(label.truth) if label.truth_class is None else analysis.name_of(label.truth_class)
        by.setdefault(name, []).append(label.customer or "(unknown)")
    return "; ".join(f"{truth}: {_customers_text(customers)}" for truth, customers in by.items())


def _customers_text(customers: list[str]) -> str:
    counts = {name: customers.count(name) for name in dict.fromkeys(customers)}
    return ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in counts.items())


def _examples(title: str, analysis: Analysis, examples: Sequence[HardExample]) -> Table:
    table = _table(f"{title} (--json has the whole ids)" if examples else title, ())
    table.add_column("prediction", no_wrap=True, overflow="ellipsis", width=ID_WIDTH)
    for heading in ("customer", "predicted", "margin", "candidate", "input"):
        table.add_column(heading, overflow="fold")
    for doubt in examples[:MAX_SHOWN]:
        table.add_row(
            doubt.prediction_id,
            escape(doubt.customer or "-"),
            escape(analysis.name_of(doubt.predicted)),
            "-" if doubt.margin is None else f"{doubt.margin:.3f}",
            escape(analysis.name_of(doubt.other)),
            escape(doubt.input.text or "--html"),
        )
    return table


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table
