"""The command `gateway analyze`."""

from collections import Counter
from pathlib import Path

import click
from rich.console import Console

from gateway.cli.options import CONFIG, JSON
from gateway.cli.record_options import SINCE, UNTIL, RecordedModel, meter, shown_progress, time_range_of
from gateway.cli.refusal import CommandError
from gateway.offline.analysis.analyzer import Subject, analyse
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.json_report import document
from gateway.offline.analysis.terminal_report import tables
from gateway.offline.examples import Predicting
from gateway.offline.labelling.files import check_name, write_rows
from gateway.offline.labelling.selection import Selection
from gateway.offline.reader import Query


@click.command()
@click.argument("model")
@CONFIG
@SINCE
@UNTIL
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an HTML report with charts to this file.",
)
@click.option(
    "--to-label",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write the rows most worth a label to this file: .json for Label Studio, or .csv.",
)
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=100, show_default=True, help="The most rows for --to-label."
)
@JSON
def analyze(
    model: str,
    config: Path,
    since: str | None,
    until: str | None,
    html: Path | None,
    to_label: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Compare versions, and show where a model is wrong.

    Lists how the candidate differs from stable, over all and slice by slice; slices that are worse than the rest;
    contradicting labels; and the rows most worth labelling. --to-label writes those for people to label, and `gateway
    feedback` takes the labels back.
    """
    if to_label is not None:
        check_name(to_label)
    query = Query(model, time_range_of(since, until))
    recorded = RecordedModel(config, model)
    selection = Selection(limit, recorded.features)
    subject = Subject(
        recorded.records,
        query,
        recorded.predicting,
        recorded.raw_input,
        recorded.features,
        ranges=recorded.ranges,
        to_label=selection.offer if to_label is not None else None,
    )
    with shown_progress() as progress:
        feedback = meter(progress, "reading feedback", recorded.records.feedback)
        analysis = analyse(subject, feedback, meter(progress, "reading predictions", recorded.records.predictions))
    if html is not None:
        html.write_text(page(analysis), encoding="utf-8")
    labelled = "" if to_label is None else _write_to_label(to_label, model, selection, recorded.predicting)
    if as_json:
        click.echo(document(analysis))
        return
    console = Console()
    for table in tables(analysis):
        console.print(table)
    if html is not None:
        click.echo(f"The report is in {html}")
    if labelled:
        click.echo(labelled)


def _write_to_label(file: Path, model: str, selection: Selection, predicting: Predicting) -> str:
    """Write the rows to label; returns what was written, in words."""
    rows = selection.rows()
    if not rows:
        unseen = f"; of {selection.unseen:,} the inputs are not recorded" if selection.unseen else ""
        raise CommandError(
            f"there is no row to label: every one has a truth{unseen}; the gateway records inputs with"
            " `records.inputs: full`"
        )
    try:
        written = write_rows(file, model, rows, predicting)
    except OSError as error:
        raise CommandError(f"{file} cannot be written: {error.strerror}") from None
    counts = Counter(str(row.why) for row in rows)
    why = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    return f"{len(rows):,} rows to label ({why}) are in {' and '.join(map(str, written))}"
