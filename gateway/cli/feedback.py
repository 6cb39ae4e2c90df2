"""The command `gateway feedback`."""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.progress import Progress

from gateway.cli.data_client import data_client
from gateway.cli.options import CONFIG, JSON, progress_bar
from gateway.cli.refusal import CommandError
from gateway.cli.rejected_file import RejectedFile
from gateway.offline.feedback.fields import Columns, Entry, parse_map
from gateway.offline.feedback.files import FeedbackFile, Format, format_of
from gateway.offline.feedback.sending import Report, Sender, batches
from gateway.settings.load import load_gateway
from gateway.system.printable import printable

MAX_SHOWN = 10


@click.command()
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@CONFIG
@click.option("--url", help="The data plane, such as https://gateway:8000; by default that of --config.")
@click.option("--format", "kind", type=click.Choice(list(Format)), help="By default what the file's extension says.")
@click.option("--map", "mapped", multiple=True, metavar="FIELD=COLUMN", help="A column of another name: truth=label.")
@click.option("--dry-run", is_flag=True, help="Check the file's form, and send nothing.")
@click.option(
    "--rejected",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write rejected lines to this JSON Lines file, each with its line and error; correct it, and send it.",
)
@JSON
def feedback(
    file: Path,
    config: Path,
    url: str | None,
    kind: str | None,
    mapped: tuple[str, ...],
    dry_run: bool,
    rejected: Path | None,
    as_json: bool,
) -> None:
    """Send truths, rewards and business metrics from a file.

    The file is CSV, JSON Lines, Parquet, or an export of Label Studio (.json). Columns: prediction_id, truth, reward,
    comment, metrics.NAME; metrics may be one column with an object. Truths, rewards and metrics may be lists, with a
    value for each row of the request; or `row` names the row, from 0. Sending a file twice does no harm: repetitions
    count once. The key, where keys are on, is in $GATEWAY_API_KEY.

    Exits with 1 if a line is rejected.
    """
    columns, report, out = Columns(parse_map(mapped)), Report(), RejectedFile(rejected, file)
    settings = None if dry_run or url else load_gateway(config)
    with ExitStack() as stack:
        given = stack.enter_context(FeedbackFile(file, Format(kind) if kind else format_of(file), columns))
        client = None if dry_run else stack.enter_context(data_client(settings, url))
        stack.enter_context(out)
        progress = stack.enter_context(progress_bar(Console(stderr=True)))
        sender = None if client is None else Sender(client, report, out.write)
        for batch in batches(_sound(given, report, out, progress)):
            if sender is None:
                report.accepted += len(batch)
            else:
                sender.send(batch)
    _show(report, columns, +given.left_out, dry_run=dry_run, as_json=as_json)
    if out.problem:
        raise CommandError(out.problem)
    if report.rejected:
        raise click.exceptions.Exit(1)


def _sound(given: FeedbackFile, report: Report, out: RejectedFile, progress: Progress) -> Iterator[Entry]:
    """Yield the entries that can be sent; reject the others."""
    task = progress.add_task("sending feedback", total=given.total)
    for number, entry in enumerate(given.entries()):
        if number % 1000 == 0:
            progress.update(task, completed=given.position())
        if entry.error:
            report.reject(entry.line, entry.error)
            out.write(entry, entry.error)
        else:
            yield entry


def _show(report: Report, columns: Columns, left_out: Counter[str], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        click.echo(orjson.dumps({**_document(report, columns, dry_run), "left_out": dict(left_out)}))
        return
    if columns.ignored:
        click.echo(f"not used, because they hold no field of feedback: {_names(columns.ignored)}", err=True)
    verb = "have the right form (ids, classes and ranges are checked by the gateway)" if dry_run else "accepted"
    click.echo(f"{report.accepted:,} lines {verb}, {report.rejected:,} rejected")
    if left_out:
        click.echo(", ".join(f"{count:,} {reason}" for reason, count in left_out.items()))
    for line, error in sorted(report.kept)[:MAX_SHOWN]:
        click.echo(f"line {line}: {printable(error)}", err=True)
    if report.rejected > MAX_SHOWN:
        click.echo(f"and {report.rejected - MAX_SHOWN:,} more; --rejected FILE writes all of them", err=True)
    for reason, count in report.uncounted.most_common(MAX_SHOWN):
        click.echo(f"{count:,} truths are kept for the data set, but count in no metric: {printable(reason)}", err=True)


def _names(names: Iterable[str]) -> str:
    return printable(", ".join(sorted(names)))


def _document(report: Report, columns: Columns, dry_run: bool) -> dict[str, Any]:
    return {
        "dry_run": dry_run,
        "accepted": report.accepted,
        "rejected": report.rejected,
        "reasons": dict(report.reasons.most_common()),
        "rejected_lines": [{"line": line, "error": error} for line, error in report.kept],
        "uncounted": dict(report.uncounted.most_common()),
        "ignored_columns": sorted(columns.ignored),
    }
