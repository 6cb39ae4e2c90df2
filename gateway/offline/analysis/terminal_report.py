"""Renders an error analysis for the terminal."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from gateway.offline.analysis.analyzer import Analysis
from gateway.offline.analysis.hard_examples import HardExample
from gateway.offline.analysis.input_summary import InputSummary
from gateway.offline.analysis.label_conflicts import LabelConflict
from gateway.offline.analysis.slices import FALSE_DISCOVERY_RATE, Slice
from gateway.offline.analysis.version_text import AS_STATUS, metric_rows, more_text, summary_of_effect
from gateway.offline.analysis.versions import Comparison
from gateway.offline.statistics import percent
from gateway.records.time_range import format_time
from gateway.system.printable import printable

MAX_SHOWN: Final = 10  # entries of each list; the JSON and HTML reports have all
ID_WIDTH: Final = 12  # enough to distinguish ids; a whole id would take six lines of a narrow terminal


def tables(analysis: Analysis) -> Iterator[RenderableType]:
    """Yield the findings as tables, the most important first."""
    yield _summary(analysis)
    yield from _versions(analysis)
    yield _slices(analysis) if analysis.slices else no_slices(analysis)
    if analysis.conflicts:
        yield _conflicts(analysis)
    if analysis.worst:
        yield _examples("Furthest from the truth", analysis, analysis.worst)
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
        ("rescued", f"{percent(analysis.rescued)} of {analysis.rescued.count:,} that were the candidate's"),
        ("contradicting labels", f"on {analysis.contradicted:,} different inputs"),
    ]
    if analysis.wrong.count:
        lines.insert(2, ("wrong", f"{percent(analysis.wrong)} of {analysis.wrong.count:,} rows with a truth"))
    if analysis.sampled > 1:
        lines.append(("sample", f"slices and versions are of one in {analysis.sampled:,} judged predictions"))
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
        table.add_row(name, _cell(value))
    return table


def _versions(analysis: Analysis) -> Iterator[RenderableType]:
    headings, rows = metric_rows(analysis)
    if rows:
        yield _filled("All judged rows of each version [95%]", headings, rows)
    if analysis.comparison is not None:
        yield from _comparison(analysis.comparison)


def _comparison(comparison: Comparison) -> Iterator[RenderableType]:
    title = (
        f"Is version {comparison.candidate} better than {comparison.stable}? {comparison.rows:,} rows drawn at random,"
        f" {comparison.units:,} units"
    )
    headings = ("metric", "stable", "candidate", "difference [95%, at any time]", "", "outcomes more to tell")
    yield _filled(title, headings, ((*summary_of_effect(one), more_text(one)) for one in comparison.effects))
    yield f"{AS_STATUS}."
    if comparison.slices:
        yield _filled(
            f"Where they differ: {len(comparison.slices):,} of {comparison.tested:,} slices, {_about_q()}",
            ("slice", "metric", "stable", "candidate", "difference [95%]", "", "q"),
            (
                (f"{one.dimension}: {one.slice}", *summary_of_effect(one), f"{one.q_value:.2g}")
                for one in comparison.slices[:MAX_SHOWN]
            ),
        )


def _slices(analysis: Analysis) -> Table:
    title = f"Worse than the rest: {len(analysis.slices)} of {analysis.tested:,} slices, {_about_q()}"
    headings = ("", "slice", "rows", "in it [95%]", "the rest", "p", "q")
    return _filled(title, headings, slice_rows(analysis.slices[:MAX_SHOWN]))


def slice_rows(slices: Sequence[Slice]) -> Iterator[tuple[str, ...]]:
    """What is measured, the slice, its rows, the measure in it and in the rest, p and q."""
    for one in slices:
        yield (
            one.label if one.than == "worse" else f"{one.label}, {one.than}",
            f"{one.dimension}: {one.value}",
            f"{one.rate.count:,}",
            one.shown(one.rate),
            one.shown(one.rest).partition(" ")[0],
            f"{one.p_value:.2g}",
            f"{one.q_value:.2g}",
        )


def _filled(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = _table(title, headings)
    for row in rows:
        table.add_row(*map(_cell, row))
    return table


def _conflicts(analysis: Analysis) -> Table:
    table = _table(f"Equal inputs, contradicting labels: {analysis.contradicted:,}", ("input", "labels, by whom"))
    for conflict in analysis.conflicts[:MAX_SHOWN]:
        table.add_row(_cell(shown_input(conflict)), _cell(labels_text(analysis, conflict)))
    return table


def shown_input(conflict: LabelConflict) -> str:
    """The text of a conflict's input, or the first prediction's id if it has no text."""
    return conflict.input.text or f"of prediction {conflict.labels[0].prediction_id}"


def labels_text(analysis: Analysis, conflict: LabelConflict) -> str:
    """Format the labels of a conflict, each with the customers who gave it."""
    by: dict[str, list[str]] = {}
    for one in conflict.labels:
        label = one.label
        name = truth_text(label.truth) if label.truth_class is None else analysis.predicting.name_of(label.truth_class)
        by.setdefault(name, []).append(label.customer or "(unknown)")
    return "; ".join(f"{truth}: {_customers_text(customers)}" for truth, customers in by.items())


def truth_text(truth: Any) -> str:
    """A truth that names no class; "-" for None."""
    if isinstance(truth, list):
        return ", ".join(map(truth_text, truth))
    return "-" if truth is None else f"{truth:.6g}" if type(truth) is float else str(truth)


def _customers_text(customers: list[str]) -> str:
    counts = {name: customers.count(name) for name in dict.fromkeys(customers)}
    return ", ".join(name if count == 1 else f"{name} ({count} times)" for name, count in counts.items())


def _examples(title: str, analysis: Analysis, examples: Sequence[HardExample]) -> Table:
    name_of = analysis.predicting.name_of
    known = examples[0].loss is not None
    table = _table(f"{title} (--json has the whole ids)" if examples else title, ())
    table.add_column("prediction", no_wrap=True, overflow="ellipsis", width=ID_WIDTH)
    for heading in ("customer", "predicted", *(("truth", "loss") if known else ("margin", "candidate")), "input"):
        table.add_column(heading, overflow="fold")
    for one in examples[:MAX_SHOWN]:
        margin = "-" if one.margin is None else f"{one.margin:.3f}"
        more = (truth_text(one.truth), f"{one.loss:.4g}") if known else (margin, name_of(one.other))
        cells = (one.customer or "-", name_of(one.predicted), *more, _input_text(one.input))
        table.add_row(one.prediction_id, *map(_cell, cells))
    return table


def _input_text(summary: InputSummary) -> str:
    return summary.text or ("--html" if summary.picture else "-")  # which shows the picture


def _table(title: str, headings: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def _cell(text: str) -> str:
    """The text for a cell of a table: customers and labels are what clients have sent."""
    return escape(printable(text))
