"""The command `gateway trace`."""

from pathlib import Path
from typing import Final

import click
import orjson
from rich.console import Console

from gateway.cli.control_client import ControlAddress
from gateway.cli.options import JSON, control_options
from gateway.cli.record_options import meter, shown_progress
from gateway.cli.records_client import fetch_trace
from gateway.cli.refusal import CommandError
from gateway.cli.trace_text import trace_tree
from gateway.offline.dataset.manifest_file import MANIFESTS
from gateway.offline.reader import records_in
from gateway.offline.trace.datasets import manifests_at, with_datasets
from gateway.offline.trace.document import no_record, traced
from gateway.offline.trace.trace import Meters, Settings
from gateway.records.trace_document import TraceDocument
from gateway.settings.load import load_gateway

_IDS_MAY_BEGIN_WITH_A_DASH: Final = {"ignore_unknown_options": True, "help_option_names": ["--help"]}  # so no -h
_IF_ELSEWHERE: Final = "is --config the one that `gateway serve` has?"


@click.command(context_settings=_IDS_MAY_BEGIN_WITH_A_DASH)
@click.argument("prediction_id")
@control_options
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A folder that `gateway export` has written, which a version may have been trained on; may be repeated.",
)
@JSON
def trace(prediction_id: str, control: ControlAddress, datasets: tuple[Path, ...], as_json: bool) -> None:
    """Follow a prediction back to its training data.

    From the id to its record and the feedback on it; to the version that answered, and whether that is still on disk;
    to the registry, the run, the data set and the code that it came from. With --url the running gateway traces it in
    its own records; the folders of --dataset are on this machine all the same.

    Exits with 1 if the prediction has no record, after what its id says.
    """
    manifests = manifests_at(datasets, MANIFESTS)
    found = _traced_here(prediction_id, control.config) if control.url is None else fetch_trace(control, prediction_id)
    found = with_datasets(found, manifests)
    if as_json:
        click.echo(orjson.dumps(found))
    else:
        Console().print(trace_tree(found))
    if problem := no_record(found):
        raise CommandError(problem)


def _traced_here(prediction_id: str, config: Path) -> TraceDocument:
    settings = load_gateway(config)
    state = Path(settings.state)
    kept = Settings(
        state=state,
        sample=settings.records.sample,
        retain_bytes=settings.records.retain,
        in_fleet=settings.fleet is not None,
        if_elsewhere=_IF_ELSEWHERE,
    )
    try:
        records = records_in(state / "records")
        with shown_progress() as progress:
            meters = Meters(
                meter(progress, "finding the prediction", records.predictions),
                meter(progress, "looking for a mirrored answer", records.mirrors),
                meter(progress, "reading feedback", records.feedback),
            )
            return traced(prediction_id, records, Path(settings.models.path), kept, meters)
    except OSError as error:
        raise CommandError(f"{error.filename or state} cannot be read: {error.strerror}") from None
