"""The command `gateway history`: what was decided, by whom, when and why."""

from pathlib import Path

import click
import orjson
from rich.console import Console

from gateway.cli.asking import call_control
from gateway.cli.options import CONFIG, JSON
from gateway.cli.tables import history_table


@click.command()
@click.argument("model", required=False)
@CONFIG
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="The most to list.")
@JSON
def history(model: str | None, config: Path, limit: int, as_json: bool) -> None:
    """List changes and decisions, newest first."""
    question = f"?limit={limit}" + (f"&model={model}" if model else "")
    decisions = call_control(config, "GET", f"/api/decisions{question}")
    if as_json:
        click.echo(orjson.dumps(decisions))
    else:
        Console().print(history_table(decisions))
