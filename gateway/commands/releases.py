"""`gateway status`, `stop` and `resume`, through the control plane of the running gateway."""

from pathlib import Path
from typing import Any

import click
import httpx
import orjson
from rich.console import Console
from rich.markup import escape

from gateway.commands.options import CONFIG, JSON, REASON, Refusal
from gateway.presentation import status_text
from gateway.settings.load import load_gateway


@click.command()
@click.argument("model", required=False)
@CONFIG
@JSON
def status(model: str | None, config: Path, as_json: bool) -> None:
    """Say what each release does now: weights, stops, and how both versions fare."""
    releases = _ask(config, "GET", f"/api/releases/{model}" if model else "/api/releases")
    if as_json:
        click.echo(orjson.dumps(releases))
        return
    for release in releases if isinstance(releases, list) else [releases]:
        Console().print(status_text(release))
    error = _ask(config, "GET", "/api/config")["last_error"]
    if error:
        Console().print(f"[red]The last edit is not in force:[/red] {escape(error)}")


@click.command()
@click.argument("model")
@CONFIG
@REASON
@JSON
def stop(model: str, config: Path, reason: str, as_json: bool) -> None:
    """Stop all traffic to the model's candidate, at once and until it is resumed."""
    decision = _ask(config, "POST", f"/api/releases/{model}/stop", reason)
    click.echo(orjson.dumps(decision) if as_json else f"version {decision['candidate']} of {model} is stopped")


@click.command()
@click.argument("model")
@CONFIG
@REASON
@JSON
def resume(model: str, config: Path, reason: str, as_json: bool) -> None:
    """Send traffic to the model's candidate again, as the routing says."""
    decision = _ask(config, "POST", f"/api/releases/{model}/resume", reason)
    click.echo(orjson.dumps(decision) if as_json else f"version {decision['candidate']} of {model} gets traffic again")


def _ask(config: Path, method: str, path: str, reason: str | None = None) -> Any:
    """What the control plane of the running gateway answers; refuses with its reason."""
    control = load_gateway(config).control
    host = f"[{control.host}]" if ":" in control.host else control.host
    url = f"http://{host}:{control.port}"
    try:
        answer = httpx.request(method, url + path, json=None if reason is None else {"reason": reason}, timeout=10)
    except httpx.TransportError as error:
        raise Refusal(f"no gateway answers at {url} ({error}); is `gateway serve` running?") from None
    document = answer.json()
    if answer.status_code != 200:
        raise Refusal(document["error"])
    return document
