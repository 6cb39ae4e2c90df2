"""The commands `gateway promote` and `gateway weight`: the running gateway edits its routing file, or rolls it back."""

import sys
from pathlib import Path
from typing import Any

import click
import orjson

from gateway.cli.control_client import call_control
from gateway.cli.fleet import spread_text
from gateway.cli.options import CONFIG, JSON, REASON

DRY_RUN = click.option("--dry-run", is_flag=True, help="Show the change without making it.")


@click.command()
@click.argument("model")
@CONFIG
@REASON
@DRY_RUN
@JSON
def promote(model: str, config: Path, reason: str, dry_run: bool, as_json: bool) -> None:
    """Make the candidate stable, in the routing file.

    Comments are kept. On return every worker has the edit, or it was rolled back.
    """
    body = {"reason": reason, "dry_run": dry_run}
    edited = call_control(config, "POST", f"/api/releases/{model}/promote", body)
    _show(edited, "every request of {model} is answered by version {candidate}", as_json)


@click.command()
@click.argument("model")
@click.argument("route")
@click.argument("percent", type=click.FloatRange(0, 100))
@CONFIG
@REASON
@DRY_RUN
@JSON
def weight(model: str, route: str, percent: float, config: Path, reason: str, dry_run: bool, as_json: bool) -> None:
    """Set a route's weight in the routing file.

    PERCENT of the route's customers get the candidate. Comments are kept. On return every worker has the edit, or it
    was rolled back.
    """
    body = {"route": route, "percent": percent, "reason": reason, "dry_run": dry_run}
    edited = call_control(config, "POST", f"/api/releases/{model}/weight", body)
    _show(edited, f"route {route} of {{model}} sends {percent:g}% to version {{candidate}}", as_json)


def _show(edited: Any, done: str, as_json: bool) -> None:
    spread = edited.get("fleet")
    text, complete = spread_text(spread) if spread is not None else ("", True)
    if as_json:
        click.echo(orjson.dumps(edited))
    else:
        click.echo(edited["difference"] or "nothing to change", nl=not edited["difference"])
        if edited["decision"]:
            click.echo(done.format(**edited["decision"]))
        if text:
            click.echo(text)
    if not complete:
        sys.exit(1)
