"""The command `gateway export`."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import click
import orjson

from gateway.cli.control_client import ControlAddress
from gateway.cli.disk_errors import told_of_disk
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
from gateway.cli.records_client import fetch_dataset
from gateway.cli.refusal import CommandError
from gateway.offline.dataset.form import Form
from gateway.offline.dataset.manifest_file import MANIFEST, read_manifest
from gateway.offline.reader import Query
from gateway.records.time_range import NOW

NEEDS_PYARROW: Final = "`gateway export` needs pyarrow: pip install pyarrow, or the extra [data] of canary-gateway"
DETAILS: Final = ("model", "kind", "columns", "tensors", "truth_is_json", "inputs", "files")  # of the manifest alone


@click.command()
@click.argument("model")
@control_options
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Output folder: a new one, or that of an earlier export.",
)
@SINCE
@UNTIL
@FEEDBACK_UNTIL
@RECORDS
@click.option(
    "--variant", type=click.Choice(["stable", "candidate", "pinned"]), help="Only predictions of this variant."
)
@click.option("--with-feedback", is_flag=True, help="Only predictions with feedback.")
@click.option("--format", "kind", type=click.Choice(["parquet", "jsonl", "csv"]), default="parquet", show_default=True)
@click.option("--flat", is_flag=True, help="A row for each row of a request, a column a feature; also as csv.")
@JSON
def export(
    model: str,
    control: ControlAddress,
    out: Path,
    since: str | None,
    until: str | None,
    feedback_until: str | None,
    folders: tuple[Path, ...],
    variant: str | None,
    with_feedback: bool,
    kind: str,
    flat: bool,
    as_json: bool,
) -> None:
    """Write recorded predictions, with feedback, as a data set.

    It is made of the records of this machine; with --url the running gateway makes it of its own. Without --until and
    --feedback-until it ends now; its manifest says when that was.
    """
    if kind == "csv" and not flat:
        raise click.UsageError("csv holds no lists; add --flat, or choose another --format")
    refuse_folders_with_url(folders, control)
    if control.url is None:
        ends = until or NOW, feedback_until or NOW  # absolute, so that the manifest names this data set for ever
        query = query_of(model, since, *ends, variant=variant, with_feedback=with_feedback)
        _write(control.config, folders, query, out, Form(kind, flat))
    else:
        times = {"since": since, "until": until, "feedback_until": feedback_until}
        flags = {"with_feedback": with_feedback, "flat": flat}
        chosen = {"variant": variant, "format": kind} | {name: "true" for name, is_set in flags.items() if is_set}
        fetch_dataset(control, model, times | chosen, out)
    manifest = read_manifest(out)
    assert manifest is not None, "it has been written"
    _show(manifest, out, as_json=as_json)


def _write(config: Path, folders: Sequence[Path], query: Query, out: Path, form: Form) -> None:
    if find_spec("pyarrow") is None:
        raise CommandError(NEEDS_PYARROW)
    from gateway.offline.dataset.export import ExportSource, Meters
    from gateway.offline.dataset.export import export as write

    recorded = recorded_model(config, query.model, folders)
    streams = recorded.records
    with shown_progress() as progress:
        meters = Meters(
            meter(progress, "reading feedback", streams.feedback),
            meter(progress, "finding the columns", streams.predictions),
            meter(progress, "writing rows", streams.predictions),
        )
        source = ExportSource(streams, recorded.raw_input, recorded.predicting, recorded.features)
        with told_of_disk(out):
            write(source, query, out, form, meters)


def _show(manifest: dict[str, Any], out: Path, *, as_json: bool) -> None:
    if as_json:
        document = {name: value for name, value in manifest.items() if name not in DETAILS}
        click.echo(orjson.dumps({"out": str(out), **document}))
        return
    model = manifest["model"]
    count = manifest["predictions"]
    noun = "prediction" if count == 1 else "predictions"
    click.echo(f"{count:,} {noun}, {manifest['rows_with_feedback']:,} with feedback")
    if skipped := manifest["skipped_records"] + manifest["skipped_feedback"]:
        click.echo(f"{skipped:,} lines of the records are not valid records and were skipped", err=True)
    as_table = ", which pandas and polars read as one table" if manifest["format"] == "parquet" else ""
    click.echo(f"written to {out / f'model={model}'}{as_table}; details: {out / MANIFEST}")
    click.echo(f"content: {manifest['content_sha256']}")
    click.echo(
        f"the last one is from {manifest['last']}; evaluate version N, trained on them, only on later ones:"
        f" gateway replay {model} --since {manifest['query']['until']} --version N"
    )
