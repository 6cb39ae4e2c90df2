"""The command `gateway export`."""

from importlib.util import find_spec
from pathlib import Path

import click
import orjson

from gateway.cli.options import CONFIG, JSON
from gateway.cli.record_options import SINCE, UNTIL, RecordedModel, meter, shown_progress, time_range_of
from gateway.cli.refusal import CommandError
from gateway.offline.reader import Query

NEEDS_PYARROW = "`gateway export` needs pyarrow: pip install pyarrow, or the extra [data] of canary-gateway"


@click.command()
@click.argument("model")
@CONFIG
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Output folder: a new one, or that of an earlier export.",
)
@SINCE
@UNTIL
@click.option(
    "--variant", type=click.Choice(["stable", "candidate", "pinned"]), help="Only predictions of this variant."
)
@click.option("--with-feedback", is_flag=True, help="Only predictions with feedback.")
@click.option("--format", "kind", type=click.Choice(["parquet", "jsonl"]), default="parquet", show_default=True)
@JSON
def export(
    model: str,
    config: Path,
    out: Path,
    since: str | None,
    until: str | None,
    variant: str | None,
    with_feedback: bool,
    kind: str,
    as_json: bool,
) -> None:
    """Write recorded predictions, with feedback, as a data set."""
    if find_spec("pyarrow") is None:
        raise CommandError(NEEDS_PYARROW)
    from gateway.offline.dataset.export import ExportSource, Meters
    from gateway.offline.dataset.export import export as write
    from gateway.offline.dataset.manifest import MANIFEST

    query = Query(model, time_range_of(since, until), variant, with_feedback)
    recorded = RecordedModel(config, model)
    streams = recorded.records
    with shown_progress() as progress:
        meters = Meters(
            meter(progress, "reading feedback", streams.feedback),
            meter(progress, "finding the columns", streams.predictions),
            meter(progress, "writing rows", streams.predictions),
        )
        counts = write(ExportSource(streams, recorded.raw_input), query, out, kind, meters)
    document = counts.document()
    if as_json:
        click.echo(orjson.dumps({"out": str(out), **document}))
    else:
        click.echo(f"{document['rows']:,} predictions, {document['rows_with_feedback']:,} of them with feedback")
        if skipped := document["skipped_records"] + document["skipped_feedback"]:
            click.echo(f"{skipped:,} lines of the records are not valid records and were skipped", err=True)
        click.echo(
            f"written to {out / f'model={model}'}, which pandas and polars read as one table; details: {out / MANIFEST}"
        )
        click.echo(
            f"the last one is from {document['last']}; evaluate a version trained on them only on later ones,"
            f" with `gateway replay {model} --version N --since` that time"
        )
