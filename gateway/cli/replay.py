"""The command `gateway replay`."""

from pathlib import Path

import click
from rich.console import Console

from gateway.backends.loaded_version import load_version
from gateway.cli.options import CONFIG, JSON
from gateway.cli.record_options import SINCE, UNTIL, RecordedModel, meter, shown_progress, time_range_of
from gateway.offline.reader import Query
from gateway.offline.replay.replay import replay as run_again
from gateway.offline.replay.report import document, remarks, table


@click.command()
@click.argument("model")
@CONFIG
@click.option("--version", "number", type=int, required=True, help="The version to run the requests on.")
@SINCE
@UNTIL
@click.option("--limit", type=click.IntRange(min=1), help="Replay at most this many predictions, the earliest first.")
@click.option("--unbatched", is_flag=True, help="Run one request at a time: slower, and reproducible to the bit.")
@JSON
def replay(
    model: str,
    config: Path,
    number: int,
    since: str | None,
    until: str | None,
    limit: int | None,
    unbatched: bool,
    as_json: bool,
) -> None:
    """Run recorded requests on a version, and compare answers."""
    query = Query(model, time_range_of(since, until))
    recorded = RecordedModel(config, model)
    repository, records = recorded.repository, recorded.records
    loaded = load_version(repository.model_file(model, number), recorded.settings, repository.sample(model))
    with shown_progress() as progress:
        result = run_again(
            records,
            query,
            loaded,
            number,
            limit=limit,
            batched=not unbatched and loaded.rules.max_rows > 1,
            feedback=meter(progress, "reading feedback", records.feedback),
            rows=meter(progress, f"running version {number}", records.predictions),
            agreeing=recorded.agreeing,
        )
    if as_json:
        click.echo(document(result))
        return
    Console().print(table(result))
    for remark in remarks(result):
        click.echo(remark)
