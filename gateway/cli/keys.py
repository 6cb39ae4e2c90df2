"""The commands `gateway keys add`, `list` and `revoke`, which manage the file of API keys."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gateway.auth.keyfile import add_key, revoke_key
from gateway.cli.options import CONFIG, JSON
from gateway.cli.refusal import CommandError
from gateway.settings.keys import KeySettings, Scope, customer_name, load_keys, usable_scopes
from gateway.settings.load import load_gateway
from gateway.settings.units import parse_seconds


def _lifetime(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    return None if value is None else _checked(parse_seconds, value)


def _customer(context: click.Context, option: click.Parameter, value: str) -> str:
    return str(_checked(customer_name, value))


def _scopes(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[Scope, ...]:
    scopes: tuple[Scope, ...] = _checked(usable_scopes, tuple(dict.fromkeys(map(Scope, value))))
    return scopes


def _checked(check: Any, value: Any) -> Any:
    try:
        return check(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def keys() -> None:
    """Create, list and revoke API keys.

    Their hashes are stored in the file set by auth.keys. A running gateway applies changes within a second.
    """


@keys.command()
@click.option("--customer", required=True, callback=_customer, help="The customer whom the key identifies.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    callback=_scopes,
    type=click.Choice([scope.value for scope in Scope]),
    help="May be repeated. delegate: the requests may name the customer for whom the key predicts or gives feedback.",
)
@click.option(
    "--expires", "lifetime_s", callback=_lifetime, metavar="90d", help="How long the key is valid; default: no limit."
)
@CONFIG
@JSON
def add(customer: str, scopes: tuple[Scope, ...], lifetime_s: float | None, config: Path, as_json: bool) -> None:
    """Create a key and print it once: only its hash is stored."""
    path = _path(config)
    key, entry = add_key(path, customer, scopes, datetime.now(UTC).replace(microsecond=0), lifetime_s)
    try:
        click.echo(orjson.dumps({"key": key, **_shown(entry)}) if as_json else key)
    except OSError:  # nobody has seen it, and it is shown once
        revoke_key(path, entry.id)
        raise
    if as_json:
        return
    click.echo(f"Key {entry.id} of {customer} is in {path}. It is not shown again: store it now.", err=True)


@keys.command("list")
@CONFIG
@JSON
def list_(config: Path, as_json: bool) -> None:
    """List the keys by id, without the keys themselves."""
    entries = load_keys(_path(config)).keys
    if as_json:
        click.echo(orjson.dumps([_shown(entry) for entry in entries]))
        return
    table = Table()
    for heading in ("id", "customer", "scopes", "created", "expires"):
        table.add_column(heading)
    for entry in entries:
        table.add_row(entry.id, escape(entry.customer), ", ".join(entry.scopes), f"{entry.created:%F}", _end(entry))
    Console().print(table)


@keys.command()
@click.argument("key_id", metavar="ID")
@CONFIG
def revoke(key_id: str, config: Path) -> None:
    """Revoke a key: a running gateway refuses it within a second."""
    entry = revoke_key(_path(config), key_id)
    click.echo(f"key {entry.id} of {entry.customer} is revoked")


def _path(config: Path) -> Path:
    path = load_gateway(config).auth.keys
    if path is None:
        raise CommandError(f"{config}: auth.keys names no file; write for example auth: {{keys: config/keys.yaml}}")
    return Path(path)


def _shown(entry: KeySettings) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude={"sha256"})


def _end(entry: KeySettings) -> str:
    if entry.expires is None:
        return "never"
    return f"[red]{entry.expires:%F}: expired[/red]" if entry.expires <= datetime.now(UTC) else f"{entry.expires:%F}"
