"""The command `gateway replay`."""

from pathlib import Path

import click
from rich.console import Console

from gateway.backends.loaded_version import load_version
from gateway.cli.disk_errors import told_of_temporary_files
from gateway.cli.options import CONFIG, JSON
from gateway.cli.record_options import (
    FEEDBACK_UNTIL,
    RECORDS,
    SINCE,
    UNTIL,
    meter,
    query_of,
    recorded_model,
    shown_progress,
)
from gateway.offline.recorded_model import RecordedModel
from gateway.offline.replay.judgement import COSINE, OF_THE_RANGE, Agreeing
from gateway.offline.replay.replay import replay as run_again
from gateway.offline.replay.report import document, remarks, table


@click.command()
@click.argument("model")
@CONFIG
@click.option("--version", "number", type=int, required=True, help="The version to run the requests on.")
@SINCE
@UNTIL
@FEEDBACK_UNTIL
@RECORDS
@click.option("--limit", type=click.IntRange(min=1), help="Replay at most this many predictions, the earliest first.")
@click.option("--unbatched", is_flag=True, help="Run one request at a time: slower, and reproducible to the bit.")
@JSON
def replay(
    model: str,
    config: Path,
    number: int,
    since: str | None,
    until: str | None,
    feedback_until: str | None,
    folders: tuple[Path, ...],
    limit: int | None,
    unbatched: bool,
    as_json: bool,
) -> None:
    """Run recorded requests on a version, and compare answers."""
    query = query_of(model, since, until, feedback_until)
    recorded = recorded_model(config, model, folders)
    repository, records = recorded.repository, recorded.records
    loaded = load_version(repository.model_file(model, number), recorded.settings, repository.sample(model))
    with told_of_temporary_files(), shown_progress() as progress:
        result = run_again(
            records,
            query,
            loaded,
            number,
            limit=limit,
            batched=not unbatched and loaded.rules.max_rows > 1,
            feedback=meter(progress, "reading feedback", records.feedback),
            rows=meter(progress, f"running version {number}", records.predictions),
            agreeing=_agreeing(recorded),
        )
    if as_json:
        click.echo(document(result))
        return
    Console().print(table(result))
    for remark in remarks(result):
        click.echo(remark)


def _agreeing(recorded: RecordedModel) -> Agreeing:
    """When a replayed answer agrees with the recorded one, as the model's folder says."""
    said = recorded.settings.main_prediction
    if said is None:
        return Agreeing(recorded.predicting)
    cosine = COSINE if said.cosine is None else said.cosine
    width = None if said.range is None else OF_THE_RANGE * (said.range[1] - said.range[0])
    return Agreeing(recorded.predicting, width if said.tolerance is None else said.tolerance, cosine)
