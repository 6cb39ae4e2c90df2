"""What the commands share: their common options, how they refuse, and their view of the configuration."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from gateway.settings.gateway_settings import GatewaySettings
from gateway.settings.load import load_gateway, load_routing
from gateway.settings.routing_settings import RoutingSettings

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("config/gateway.yaml"),
    show_default=True,
    help="The server's YAML file; paths in it are relative to the working directory.",
)
REASON = click.option("--reason", default="", help="Why; kept with the decision.")
JSON = click.option("--json", "as_json", is_flag=True, help="For scripts.")


def progress_bar(console: Console) -> Progress:
    """A progress bar that leaves nothing behind, and nothing at all where no person watches."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def load(config: Path, routing: Path | None = None) -> tuple[GatewaySettings, RoutingSettings]:
    """Both YAML files, or `routing` in the place of the one that `config` names; raises SettingsError."""
    settings = load_gateway(config)
    return settings, load_routing(routing or Path(settings.routing))
