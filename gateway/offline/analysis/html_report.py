"""Renders an error analysis as one self-contained HTML file, without scripts, in the system's light or dark scheme."""

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

from gateway.offline.analysis import html_versions, svg
from gateway.offline.analysis.analyzer import Analysis
from gateway.offline.analysis.hard_examples import HardExample
from gateway.offline.analysis.html_table import markup_table, table
from gateway.offline.analysis.input_summary import InputSummary
from gateway.offline.analysis.slices import FALSE_DISCOVERY_RATE, Slice, Than
from gateway.offline.analysis.tallies import CONFIDENCE_BINS, HOUR_NS
from gateway.offline.analysis.terminal_report import facts, labels_text, no_slices, slice_rows, truth_text
from gateway.offline.statistics import Rate, percent
from gateway.records.time_range import format_time

MAX_BARS: Final = 20
STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2329; --soft: #5b6770; --paper: #ffffff; --line: #dde2e6; --bad: #c2410c;
  --good: #2563a8; --s0: #2563a8; --s1: #c2410c; --s2: #15803d; --s3: #7e22ce; --on: #ffffff; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8eb; --soft: #9aa7b1; --paper: #14181c; --line: #333c44;
  --bad: #fb923c; --good: #60a5fa; --s0: #60a5fa; --s1: #fb923c; --s2: #4ade80; --s3: #c084fc; --on: #14181c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 4rem; background: var(--paper); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 1rem; } h2 { font-size: 1.15rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; color: var(--soft); margin: .25rem 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .85rem; } td { white-space: nowrap; }
td.long { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1.5rem; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; }
svg { max-width: 100%; height: auto; display: block; } text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.number { fill: var(--soft); font-variant-numeric: tabular-nums; } .end { text-anchor: end; }
.middle, .count { text-anchor: middle; }
.count { font-size: 11px; } .count.on { fill: var(--on); } table { margin-top: .75rem; }
.bar { fill: var(--bad); fill-opacity: .55; } .whisker { stroke: var(--ink); stroke-width: 1.5; }
.reference { stroke: var(--good); stroke-width: 2; } .grid { stroke: var(--line); }
.cell.right { fill: var(--good); } .cell.wrong { fill: var(--bad); } .line { fill: none; stroke-width: 2; }
.dot { stroke: var(--paper); } .line.series-0 { stroke: var(--s0); } .dot.series-0 { fill: var(--s0); }
.line.series-1 { stroke: var(--s1); } .dot.series-1 { fill: var(--s1); } .line.series-2 { stroke: var(--s2); }
.dot.series-2 { fill: var(--s2); } .line.series-3 { stroke: var(--s3); } .dot.series-3 { fill: var(--s3); }
.picture { border: 1px solid var(--line); } .picture rect { fill: var(--ink); }
code { font-size: .85em; } .scroll { overflow-x: auto; } figure { margin: 0; } figcaption { color: var(--soft); }
.beside { display: flex; flex-wrap: wrap; gap: 1.5rem; } .beside figure { flex: 1 1 20rem; min-width: 0; }
.zero { stroke: var(--soft); stroke-dasharray: 3 3; } .effect { stroke-width: 3; } .effect.open { stroke: var(--soft); }
.effect.good { stroke: var(--good); } .effect.bad { stroke: var(--bad); } .point.open { fill: var(--soft); }
.point.good { fill: var(--good); } .point.bad { fill: var(--bad); } .box { fill-opacity: .55; stroke: none; }
.median { stroke: var(--ink); stroke-width: 2; } .box.series-0 { fill: var(--s0); } .box.series-1 { fill: var(--s1); }
.box.series-2 { fill: var(--s2); } .box.series-3 { fill: var(--s3); }
@media (max-width: 40rem) { dl { grid-template-columns: 1fr; } dd { margin-bottom: .5rem; } }
"""


def page(analysis: Analysis) -> str:
    """Return the HTML of the whole page."""
    title = f"{escape(analysis.model)}: error analysis"
    sections = "\n".join(_sections(analysis))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n{sections}\n</main>\n</body>\n</html>\n"
    )


def _sections(analysis: Analysis) -> Iterator[str]:
    yield (
        "<dl>"
        + "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts(analysis))
        + "</dl>"
    )
    yield from html_versions.versions(analysis)
    yield from _slices(analysis)
    yield from html_versions.residuals(analysis)
    if len({hour for hour, _ in analysis.tallies.hourly}) > 1:
        yield from _over_time(analysis)
    yield from html_versions.confusions(analysis)
    if analysis.tallies.confidence:
        yield from _confidence(analysis)
    if analysis.conflicts:
        yield from _conflicts(analysis)
    if analysis.worst:
        yield "<h2>Furthest from the truth</h2>"
        yield _examples(analysis, analysis.worst)
    if analysis.least_confident:
        yield "<h2>Least confident, and not labelled yet</h2>"
        yield "<p>Labels for these help the next version most. Margin: the highest score minus the second.</p>"
        yield _examples(analysis, analysis.least_confident)
    yield from html_versions.disagreement(analysis)
    if analysis.disagreements:
        yield "<h2>The candidate disagrees, and there is no label</h2>"
        yield _examples(analysis, analysis.disagreements)


def _slices(analysis: Analysis) -> Iterator[str]:
    yield "<h2>Worse than the rest</h2>"
    if not analysis.slices:
        yield f"<p>{escape(no_slices(analysis))}</p>"
        return
    yield (
        f"<p>{len(analysis.slices)} of {analysis.tested:,} slices. Rates: 95% intervals by Wilson, p by Fisher's exact"
        " test; means: Student's t, Welch's t-test. q: the false discovery rate at which the slice is called (Benjamini"
        f" and Hochberg), at most {FALSE_DISCOVERY_RATE:.0%} here. Blue mark: the rest.</p>"
    )
    for measure in dict.fromkeys(one.label for one in analysis.slices if one.than is Than.WORSE):
        mine = [one for one in analysis.slices if one.label == measure][:MAX_BARS]
        if all(min(one.rate.value, one.rest.value) >= 0 for one in mine):
            yield f"<h3>{escape(measure)}</h3>"
            yield svg.bars(f"Slices that are worse than the rest: {measure}", [_bar(one) for one in mine])
    yield table(
        ("measure", "slice", "rows", "in it [95%]", "the rest", "p", "q"),
        slice_rows(analysis.slices[: html_versions.MAX_LISTED]),
    )


def _bar(one: Slice) -> svg.Bar:
    name = f"{one.dimension}: {one.value}"
    note = f"{one.label}, {name}: {one.shown(one.rate)} of {one.rate.count:,}; the rest {one.shown(one.rest)}"
    if isinstance(one.rate, Rate):
        ends, text = (one.rate.value, one.rate.low, one.rate.high), f"{100 * one.rate.value:.1f}%"
    else:
        assert one.metric is not None
        ends, text = one.metric.of(one.rate), one.metric.text(one.metric.of(one.rate)[0])
    reference = one.rest.value if one.metric is None else one.metric.transform(one.rest.value)
    return svg.Bar(name, *ends, reference, note, text)


def _over_time(analysis: Analysis) -> Iterator[str]:
    hourly = analysis.tallies.hourly
    hours = sorted({hour for hour, _ in hourly})
    span = hours[-1] - hours[0]
    series = []
    for version in sorted({version for _, version in hourly}):
        mine = [(hour, rate) for (hour, number), rate in hourly.items() if number == version]
        points = [((hour - hours[0]) / span, rate.value) for hour, rate in mine]
        notes = [f"version {version}, {_hour(hour)}: {percent(rate)} of {rate.count:,}" for hour, rate in mine]
        series.append(svg.Line(f"version {version}", points, notes))
    lowest = min(rate.value for rate in hourly.values())
    yield "<h2>Accuracy by the hour</h2>"
    yield svg.lines(
        "Accuracy by the hour", series, min(0.9, int(lowest * 10) / 10), (_hour(hours[0]), _hour(hours[-1]))
    )


def _hour(hour: int) -> str:
    return f"{format_time(hour * HOUR_NS)[:16].replace('T', ' ')} UTC"


def _confidence(analysis: Analysis) -> Iterator[str]:
    confidence = analysis.tallies.confidence
    names = [
        f"{100 * bin / CONFIDENCE_BINS:.0f}-{100 * (bin + 1) / CONFIDENCE_BINS:.0f}%" for bin in range(CONFIDENCE_BINS)
    ]
    stacks = [(confidence.get((bin, True), 0), confidence.get((bin, False), 0)) for bin in range(CONFIDENCE_BINS)]
    yield "<h2>Confidence</h2><p>Score of the predicted class; blue: correct, orange: wrong.</p>"
    yield svg.columns("Right and wrong answers by confidence", names, stacks)


def _conflicts(analysis: Analysis) -> Iterator[str]:
    yield f"<h2>Equal inputs, contradicting labels: {analysis.contradicted:,}</h2>"
    yield "<p>These cannot be used for training: ask those who gave the labels.</p>"
    rows = (
        (_input(one.input), escape(labels_text(analysis, one)), f"<code>{escape(one.labels[0].prediction_id)}</code>")
        for one in analysis.conflicts
    )
    yield markup_table(("input", "labels, by whom", "first prediction"), rows)


def _examples(analysis: Analysis, examples: Sequence[HardExample]) -> str:
    """A table with the columns of which any row has a value."""
    name_of = analysis.predicting.name_of
    columns: list[tuple[str, list[str]]] = [
        ("input", [_input(one.input) for one in examples]),
        ("predicted", [escape(name_of(one.predicted)) for one in examples]),
        ("truth", [escape(truth_text(one.truth)) for one in examples]),
        ("loss", ["-" if one.loss is None else f"{one.loss:.4g}" for one in examples]),
        ("candidate", [escape(name_of(one.other)) for one in examples]),
        ("margin", ["-" if one.margin is None else f"{one.margin:.3f}" for one in examples]),
        ("customer", [escape(one.customer or "-") for one in examples]),
        ("row", [str(one.row) if one.row else "-" for one in examples]),
        ("prediction", [f"<code>{escape(one.prediction_id)}</code>" for one in examples]),
    ]
    used = [(heading, cells) for heading, cells in columns if set(cells) != {"-"}]
    return markup_table([heading for heading, _ in used], list(zip(*(cells for _, cells in used), strict=True)))


def _input(summary: InputSummary) -> str:
    return svg.picture(summary.picture) if summary.picture else escape(summary.text)
