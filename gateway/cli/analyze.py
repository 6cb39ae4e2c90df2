"""The command `gateway analyze`."""

from pathlib import Path

import click
from rich.console import Console

from gateway.cli.options import CONFIG, JSON
from gateway.cli.record_options import SINCE, UNTIL, RecordedModel, meter, shown_progress, time_range_of
from gateway.offline.analysis.analyzer import Subject, analyse
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.json_report import document
from gateway.offline.analysis.terminal_report import tables
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
@JSON
def analyze(model: str, config: Path, since: str | None, until: str | None, html: Path | None, as_json: bool) -> None:
    """Compare versions, and show where a model is wrong.

    Lists how the candidate differs from stable, over all and slice by slice; slices that are worse than the rest;
    contradicting labels; and the rows most worth labelling.
    """
    query = Query(model, time_range_of(since, until))
    recorded = RecordedModel(config, model)
    subject = Subject(
        recorded.records,
        query,
        recorded.predicting,
        recorded.raw_input,
        recorded.features,
        ranges=recorded.ranges,
    )
    with shown_progress() as progress:
        feedback = meter(progress, "reading feedback", recorded.records.feedback)
        analysis = analyse(subject, feedback, meter(progress, "reading predictions", recorded.records.predictions))
    if html is not None:
        html.write_text(page(analysis), encoding="utf-8")
    if as_json:
        click.echo(document(analysis))
        return
    console = Console()
    for table in tables(analysis):
        console.print(table)
    if html is not None:
        click.echo(f"The report is in {html}")
