"""The command `gateway trace`."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click
import orjson
from rich.console import Console

from gateway.backends.repository import Repository
from gateway.cli.options import CONFIG, JSON
from gateway.cli.record_options import meter, shown_progress
from gateway.cli.refusal import CommandError
from gateway.cli.trace_document import trace_document
from gateway.cli.trace_text import trace_tree
from gateway.errors import GatewayError
from gateway.offline.dataset.manifest_file import MANIFESTS
from gateway.offline.reader import records_in
from gateway.offline.trace.trace import Meters, Settings, Trace, Tracer
from gateway.offline.trace.version import VersionTracer, manifests_at
from gateway.records.token_keys import stored_signer
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import load_gateway

_IDS_MAY_BEGIN_WITH_A_DASH: Final = {"ignore_unknown_options": True, "help_option_names": ["--help"]}  # so no -h


@click.command(context_settings=_IDS_MAY_BEGIN_WITH_A_DASH)
@click.argument("prediction_id")
@CONFIG
@click.option(
    "--dataset",
    "datasets",
    multiple=True,
    type=click.Path(path_type=Path, exists=True),
    help="A folder that `gateway export` has written, which a version may have been trained on; may be repeated.",
)
@JSON
def trace(prediction_id: str, config: Path, datasets: tuple[Path, ...], as_json: bool) -> None:
    """Follow a prediction back to its training data.

    From the id to its record and the feedback on it; to the version that answered, and whether that is still on disk;
    to the registry, the run, the data set and the code that it came from.

    Exits with 1 if the prediction has no record, after what its id says.
    """
    settings = load_gateway(config)
    try:
        found = _traced(prediction_id, settings, datasets)
    except OSError as error:
        raise CommandError(f"{error.filename or settings.state} cannot be read: {error.strerror}") from None
    if as_json:
        click.echo(orjson.dumps(trace_document(found)))
    else:
        Console().print(trace_tree(found, _labels(found, settings)))
    if found.missing:
        raise CommandError(f"{prediction_id[:24]}… cannot be traced to its record: {found.missing}")


def _labels(trace: Trace, settings: GatewaySettings) -> Sequence[str]:
    """The names of the model's classes, as its folder says now; empty if it says none."""
    repository = Repository(Path(settings.models.path))
    try:
        there = bool(repository.versions(trace.token.model))
        prediction = repository.settings(trace.token.model).main_prediction if there else None
    except GatewayError:
        return ()
    return prediction.labels if prediction else ()


def _traced(prediction_id: str, settings: GatewaySettings, datasets: tuple[Path, ...]) -> Trace:
    state = Path(settings.state)
    records = records_in(state / "records")
    versions = VersionTracer(Repository(Path(settings.models.path)), manifests_at(datasets, MANIFESTS))
    kept = Settings(
        state=state,
        sample=settings.records.sample,
        retain_bytes=settings.records.retain,
        in_fleet=settings.fleet is not None,
    )
    tracer = Tracer(records, versions, stored_signer(state), kept, time.time_ns)
    with shown_progress() as progress:
        meters = Meters(
            meter(progress, "finding the prediction", records.predictions),
            meter(progress, "looking for a mirrored answer", records.mirrors),
            meter(progress, "reading feedback", records.feedback),
        )
        return tracer.trace(prediction_id, meters)
