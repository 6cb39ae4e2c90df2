"""The command `gateway analyze`."""

from pathlib import Path

import click
from rich.console import Console

from gateway.cli.control_client import ControlAddress
from gateway.cli.options import JSON, control_options
from gateway.cli.record_options import (
    FEEDBACK_UNTIL,
    SINCE,
    UNTIL,
    meter,
    query_of,
    recorded_model,
    shown_progress,
)
from gateway.cli.records_client import fetch_analysis
from gateway.offline.analysis.analyzer import Analysis, Subject, analyse
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.json_report import document
from gateway.offline.analysis.terminal_report import tables
from gateway.offline.reader import Query


@click.command()
@click.argument("model")
@control_options
@SINCE
@UNTIL
@FEEDBACK_UNTIL
@click.option(
    "--html",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Also write an HTML report with charts to this file.",
)
@JSON
def analyze(
    model: str,
    control: ControlAddress,
    since: str | None,
    until: str | None,
    feedback_until: str | None,
    html: Path | None,
    as_json: bool,
) -> None:
    """Compare versions, and show where a model is wrong.

    Lists how the candidate differs from stable, over all and slice by slice; slices that are worse than the rest;
    contradicting labels; and the rows most worth labelling. With --url the running gateway analyses its own records.
    """
    if control.url is None:
        analysis = _analysed(control.config, query_of(model, since, until, feedback_until))
        if html is not None:
            html.write_text(page(analysis), encoding="utf-8")
        if as_json:
            click.echo(document(analysis))
            return
        console = Console()
        for table in tables(analysis):
            console.print(table)
    else:
        times = {"since": since, "until": until, "feedback_until": feedback_until}
        if html is not None:
            html.write_bytes(fetch_analysis(control, model, times | {"format": "html"}))
        click.echo(fetch_analysis(control, model, times | {"format": "json" if as_json else "text"}), nl=as_json)
    if html is not None and not as_json:
        click.echo(f"The report is in {html}")


def _analysed(config: Path, query: Query) -> Analysis:
    recorded = recorded_model(config, query.model)
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
        return analyse(subject, feedback, meter(progress, "reading predictions", recorded.records.predictions))
