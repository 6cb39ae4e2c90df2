"""The parts of the HTML report that compare versions: effects, metrics, slices, confusion matrices, errors."""

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.evidence.effect import EffectVerdict
from gateway.offline.analysis import svg, svg_intervals
from gateway.offline.analysis.analyzer import Analysis
from gateway.offline.analysis.html_table import table
from gateway.offline.analysis.slices import FALSE_DISCOVERY_RATE
from gateway.offline.analysis.version_text import (
    AS_STATUS,
    effect_text,
    metric_rows,
    more_text,
    recall_rows,
    summary_of_effect,
)
from gateway.offline.analysis.versions import Comparison, Effect

MAX_CLASSES: Final = 24  # with more, a confusion matrix is too fine to read
MAX_ROWS: Final = 20
MAX_LISTED: Final = 40  # slices in a table; the JSON report has all
_KINDS: Final = {EffectVerdict.BETTER: "good", EffectVerdict.WORSE: "bad"}


def versions(analysis: Analysis) -> Iterator[str]:
    """Is the candidate better, in what, and where?"""
    comparison = analysis.comparison
    if comparison is not None:
        yield from _comparison(comparison)
    headings, rows = metric_rows(analysis)
    if rows:
        yield "<h2>Versions</h2>"
        yield "<p>All judged rows of each version, with 95% intervals: not only those drawn at random.</p>"
        yield table(headings, rows)


def _comparison(comparison: Comparison) -> Iterator[str]:
    yield f"<h2>Is version {comparison.candidate} better than {comparison.stable}?</h2>"
    yield (
        f"<p>Candidate minus stable, over {comparison.rows:,} judged rows in {comparison.units:,} independent units"
        " that were drawn at random between them. The 95% intervals hold however often one looks (for many outcomes,"
        " where their range is not known). Each metric has its own scale; blue: better, orange: worse, grey: not known,"
        " or not known which is better."
        f" {AS_STATUS}.</p>"
    )
    if comparison.effects:
        yield svg_intervals.effects("Candidate minus stable", [_row(one) for one in comparison.effects[:MAX_ROWS]])
        yield table(
            ("metric", "stable", "candidate", "difference [95%]", "verdict", "outcomes more to tell"),
            ((*summary_of_effect(one), more_text(one)) for one in comparison.effects),
        )
    yield "<h2>Where the versions differ</h2>"
    if not comparison.slices:
        yield (
            f"<p>In none of {comparison.tested:,} slices do they differ significantly (at most"
            f" {FALSE_DISCOVERY_RATE:.0%} false discoveries).</p>"
        )
        return
    yield (
        f"<p>{len(comparison.slices):,} of {comparison.tested:,} slices, by Welch's t-test with at most"
        f" {FALSE_DISCOVERY_RATE:.0%} false discoveries (Benjamini and Hochberg); intervals of 95% each."
        f" The first {MAX_ROWS} are drawn, {MAX_LISTED} listed; the report of --json has all.</p>"
    )
    yield svg_intervals.effects(
        "Slices in which the versions differ", [_row(one) for one in comparison.slices[:MAX_ROWS]]
    )
    yield table(
        ("slice", "metric", "rows", "stable", "candidate", "difference [95%]", "verdict", "q"),
        (
            (f"{one.dimension}: {one.slice}", one.metric.label, f"{one.stable.count + one.candidate.count:,}",
             *summary_of_effect(one)[1:], f"{one.q_value:.2g}")
            for one in comparison.slices[:MAX_LISTED]
        ),
    )  # fmt: skip


def _row(one: Effect) -> svg_intervals.EffectRow:
    where = f"{one.dimension}: {one.slice}" if one.dimension else ""
    label = " · ".join(filter(None, (where, one.metric.label)))
    return svg_intervals.EffectRow(
        label=label,
        scale=one.metric.name,
        value=one.value,
        low=one.low,
        high=one.high,
        text=one.verdict,
        kind=_KINDS.get(one.verdict, "open"),
        note=f"{label}: {effect_text(one)}, {one.verdict}",
    )


def residuals(analysis: Analysis) -> Iterator[str]:
    """The spread of the errors of a regression, by slice and version."""
    if not analysis.residuals:
        return
    series = {version: index for index, version in enumerate(sorted({one.version for one in analysis.residuals}))}
    yield "<h2>Errors, by slice and version</h2>"
    yield (
        "<p>Prediction minus truth. Box: the middle half, with the median; line: from 5 to 95%; dot: the mean. Right of"
        " zero the prediction is too high. First all rows, then the slices that are worse or differ.</p>"
    )
    yield svg_intervals.spreads(
        "Errors by slice and version",
        [
            svg_intervals.SpreadRow(
                one.slice or "all rows",
                f"version {one.version}",
                series[one.version],
                one.mean,
                one.quantiles,
                f"{one.slice or 'all rows'}, version {one.version}: {one.count:,} rows, mean {one.mean:.4g}, median"
                f" {one.quantiles[2]:.4g}, 5 to 95%: {one.quantiles[0]:.4g} to {one.quantiles[4]:.4g}",
            )
            for one in analysis.residuals
        ],
    )


def confusions(analysis: Analysis) -> Iterator[str]:
    """The confusion matrices side by side, and the recall of each class or label."""
    confusions = analysis.tallies.confusions
    pairs = {number for counts in confusions.values() for pair in counts for number in pair}
    numbers = sorted(pairs | (set(range(len(analysis.labels))) if confusions else set()))
    if 0 < len(numbers) <= MAX_CLASSES:
        names = [analysis.predicting.name_of(number) for number in numbers]
        yield "<h2>Confusion matrix</h2>"
        yield '<div class="beside">'
        for version, counts in sorted(confusions.items()):
            cells = [[counts.get((truth, guess), 0) for guess in numbers] for truth in numbers]
            title = f"Confusion matrix of version {version}"
            yield f"<figure><figcaption>Version {version}</figcaption>{svg.matrix(title, names, cells)}</figure>"
        yield "</div>"
    headings, rows = recall_rows(analysis)
    if rows:
        yield "<h2>Recall</h2>"
        yield "<p>The share of the rows of a class or label that were given it, with its 95% interval.</p>"
        yield table(headings, rows)


def disagreement(analysis: Analysis) -> Iterator[str]:
    """What both versions said of the same requests, where it was not the same."""
    pairs: Sequence[tuple[int, int, int]] = analysis.agreement.pairs
    if pairs:
        yield "<h2>What mirrored answers disagree on</h2>"
        name_of = analysis.predicting.name_of
        yield table(
            ("stable says", "the candidate says", "rows"),
            ((name_of(stable), name_of(candidate), f"{count:,}") for stable, candidate, count in pairs),
        )
