"""The command `gateway analyze`."""

from collections import Counter
from pathlib import Path

import click
from rich.console import Console

from gateway.cli.control_client import ControlAddress
from gateway.cli.disk_errors import told_later, told_of_disk, told_of_temporary_files
from gateway.cli.options import JSON, control_options
from gateway.cli.record_options import (
    FEEDBACK_UNTIL,
    RECORDS,
    SINCE,
    UNTIL,
    meter,
    query_of,
    recorded_model,
    refuse_folders_with_url,
    shown_progress,
)
from gateway.cli.records_client import fetch_analysis
from gateway.cli.refusal import CommandError
from gateway.offline.analysis.analyzer import Analysis, Subject, analyse
from gateway.offline.analysis.html_report import page
from gateway.offline.analysis.json_report import document
from gateway.offline.analysis.terminal_report import tables
from gateway.offline.examples import Predicting
from gateway.offline.labelling.files import check_name, write_rows
from gateway.offline.labelling.selection import Selection
from gateway.offline.reader import Query
from gateway.offline.recorded_model import RecordedModel


@click.command()
@click.argument("model")
@control_options
@SINCE
@UNTIL
@FEEDBACK_UNTIL
@RECORDS
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
    control: ControlAddress,
    since: str | None,
    until: str | None,
    feedback_until: str | None,
    folders: tuple[Path, ...],
    html: Path | None,
    to_label: Path | None,
    limit: int,
    as_json: bool,
) -> None:
    """Compare versions, and show where a model is wrong.

    Lists how the candidate differs from stable, over all and slice by slice; slices that are worse than the rest;
    contradicting labels; and the rows most worth labelling. With --url the running gateway analyses its own records.
    --to-label writes those rows for people to label, and `gateway feedback` takes the labels back.
    """
    refuse_folders_with_url(folders, control)
    if to_label is not None:
        check_name(to_label)
        if control.url is not None:
            raise click.UsageError("--to-label reads the records themselves: leave --url out, where the records are")
    for file in filter(None, (html, to_label)):
        with told_of_disk(file):
            file.parent.stat()  # rather now than after the records are read
    written: list[str] = []
    problems: list[str] = []
    if control.url is None:
        recorded = recorded_model(control.config, model, folders)
        selection = None if to_label is None else Selection(limit, recorded.features)
        analysis = _analysed(recorded, query_of(model, since, until, feedback_until), selection)
        if html is not None:
            with told_later(problems):
                written.append(_write_report(html, page(analysis).encode()))
        if to_label is not None and selection is not None:
            with told_later(problems):
                written.append(_write_to_label(to_label, model, selection, recorded.predicting))
        if as_json:
            click.echo(document(analysis))
        else:
            _print_tables(analysis)
    else:
        times = {"since": since, "until": until, "feedback_until": feedback_until}
        if html is not None:
            content = fetch_analysis(control, model, times | {"format": "html"})
            with told_later(problems):
                written.append(_write_report(html, content))
        click.echo(fetch_analysis(control, model, times | {"format": "json" if as_json else "text"}), nl=as_json)
    if not as_json:
        for line in written:
            click.echo(line)
    if problems:
        raise CommandError("\n".join(problems))


def _print_tables(analysis: Analysis) -> None:
    console = Console()
    for table in tables(analysis):
        console.print(table)


def _write_report(file: Path, content: bytes) -> str:
    """Write the HTML report; returns where it is, in words."""
    with told_of_disk(file):
        file.write_bytes(content)
    return f"The report is in {file}"


def _analysed(recorded: RecordedModel, query: Query, selection: Selection | None) -> Analysis:
    subject = Subject(
        recorded.records,
        query,
        recorded.predicting,
        recorded.raw_input,
        recorded.features,
        ranges=recorded.ranges,
        to_label=None if selection is None else selection.offer,
    )
    with told_of_temporary_files(), shown_progress() as progress:
        feedback = meter(progress, "reading feedback", recorded.records.feedback)
        return analyse(subject, feedback, meter(progress, "reading predictions", recorded.records.predictions))


def _write_to_label(file: Path, model: str, selection: Selection, predicting: Predicting) -> str:
    """Write the rows to label; returns what was written, in words."""
    rows = selection.rows()
    if not rows:
        if not selection.unseen:
            raise CommandError("there is no row to label: every one has a truth")
        raise CommandError(
            f"there is no row to label: every one has a truth; of {selection.unseen:,} the inputs are not recorded; the"
            " gateway records inputs with `records.inputs: full`"
        )
    with told_of_disk(file):
        written = write_rows(file, model, rows, predicting)
    counts = Counter(str(row.why) for row in rows)
    why = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
    left_out = sum(row.shown.image_left_out for row in rows)
    images = (
        f"; {left_out:,} without their images, which are larger than {selection.row_bytes / 1024:,.0f} KiB: a smaller"
        " --limit leaves more to each"
    )
    return f"{len(rows):,} rows to label ({why}) are in {' and '.join(map(str, written))}{images if left_out else ''}"
