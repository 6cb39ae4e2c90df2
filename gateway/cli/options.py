"""What the commands share: their common options, how they refuse, and their view of the configuration."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from gateway.backends.repository import Repository
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
REASON = click.option("--reason", default="", help="The reason, recorded with the decision.")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def progress_bar(console: Console) -> Progress:
    """A progress bar that leaves nothing behind, and nothing at all where no person watches."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def load(config: Path, routing: Path | None = None) -> tuple[GatewaySettings, ResolvedRouting]:
    """The server's settings, and what a gateway of this state folder would serve by its routing file, or by `routing`.

    Raises SettingsError. Where the state folder is not there or not readable, the files alone decide.
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
    """What is different from what is in force, and what no entry says."""
    return [line for lines in resolved.notes.values() for line in lines]
