"""What the commands share: common options, the progress bar, and loading of the configuration."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import click
from rich.console import Console
from rich.progress import Progress

from gateway.backends.repository import Repository
from gateway.cli.control_client import ControlAddress
from gateway.control.config.acceptance import resolve_input
from gateway.control.config.file_snapshot import snapshot
from gateway.control.config.memory import ReleaseMemoryFile, RememberedRelease
from gateway.control.config.resolve import ResolvedRouting
from gateway.control.config.review import parse_accepted, validate
from gateway.control.release.decisions import read_stopped
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import load_gateway

CONFIG = click.option(
    "--config",
    type=click.Path(path_type=Path),
    default=Path("config/gateway.yaml"),
    show_default=True,
    help="The server's YAML file; paths in it are relative to the working directory.",
)
URL = click.option(
    "--url",
    metavar="URL",
    help="The control plane, such as https://gateway:8002, instead of that of --config; no other file is read then.",
)
REASON = click.option("--reason", default="", help="The reason, recorded with the decision.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


Command = TypeVar("Command", bound=Callable[..., Any])


def control_options(command: Command) -> Command:
    """The options --config and --url of a command of the running gateway; it gets them as `control`."""

    @functools.wraps(command)
    def with_address(*arguments: Any, config: Path, url: str | None, **given: Any) -> Any:
        return command(*arguments, control=ControlAddress(config, url), **given)

    return cast(Command, CONFIG(URL(with_address)))


def progress_bar(console: Console) -> Progress:
    """Return a progress bar that is erased at its end, and not shown at all if the output is not a terminal."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def load(config: Path, routing: Path | None = None) -> tuple[GatewaySettings, ResolvedRouting]:
    """Return the server's settings, and what a gateway with this state folder would serve by its routing file, or by
    the file `routing` instead.

    If the state folder is missing or unreadable, the files alone decide. Raises SettingsError.
    """
    settings = load_gateway(config)
    state, path = Path(settings.state), routing or Path(settings.routing)
    repository = Repository(Path(settings.models.path))
    memory, stopped = ReleaseMemoryFile(state), frozenset[tuple[str, int]]()
    before, remembered = parse_accepted(None), dict[str, RememberedRelease]()
    try:
        stopped, before = read_stopped(state), parse_accepted(memory.text())
        remembered = dict(memory.read(before.routing))
    except PermissionError:
        click.echo(f"{state} cannot be read, so the file is not compared with what is in force", err=True)
    except (OSError, ValueError) as error:
        raise SettingsError(str(state), [str(error)]) from None
    content = snapshot(path).content_or_raise(str(path))
    _, resolved = validate(content, before, resolve_input(remembered, repository, stopped), str(path))
    return settings, resolved


def notes_of(resolved: ResolvedRouting) -> list[str]:
    """Return notes: how the file differs from what is in force, and which models have no entry in it."""
    return [line for lines in resolved.notes.values() for line in lines]
