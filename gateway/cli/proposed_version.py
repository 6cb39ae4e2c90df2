"""Where a version to be proposed is: in the gateway's repository, at a path or an address, or in MLflow's registry."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import click
from rich.console import Console

from gateway.backends.not_served import is_version
from gateway.cli.download import SHA256, Progress, download, shown_address
from gateway.cli.options import progress_bar
from gateway.cli.refusal import CommandError
from gateway.cli.registered_version import SCHEME, fetch_registered, registry_at
from gateway.settings.gateway import GatewaySettings
from gateway.settings.units import LARGEST_VERSION

ADDRESSES: Final = ("http://", "https://")


def version_place(value: str) -> Path | str | int:
    """The type of an argument: a number, of a version in the repository; a path that exists, as a Path; an address or a
    URI of the registry as text.
    """
    if value.isdecimal():
        if not (value.isascii() and is_version(value)):
            raise click.BadParameter(
                f"{value!r:.60} is no version's number, which is a whole number from 1 to {LARGEST_VERSION} without"
                f" leading zeros; a path of that name is ./{value:.60}"
            )
        if os.path.lexists(value):
            click.echo(f"{value} is the version in the gateway's repository; the path here is ./{value}", err=True)
        return int(value)
    if value.startswith((*ADDRESSES, SCHEME)):
        return value
    path: Path = click.Path(exists=True, path_type=Path).convert(value, None, None)
    return path


@dataclass(frozen=True, slots=True)
class ProposedVersion:
    """A version's folder or model file on this machine. `origin`: where it is fetched from; empty for a path."""

    path: Path
    origin: str = ""


@contextmanager
def proposed_version(
    place: Path | str, settings: GatewaySettings, *, sha256: str | None, registry: str | None
) -> Iterator[ProposedVersion]:
    """Fetch the version unless it is there; what was fetched is removed on exit.

    `registry`: the MLflow server's address, see `registry_at`. Raises CommandError.
    """
    max_bytes = settings.models.max_proposal
    address = isinstance(place, str) and place.startswith(ADDRESSES)
    if sha256 is not None and not address:
        raise CommandError("--sha256 is for http and https addresses only")
    if sha256 is not None and not SHA256.fullmatch(sha256 := sha256.lower().removeprefix("sha256:")):
        raise CommandError("--sha256 takes 64 hexadecimal digits, as `sha256sum` prints them")
    if isinstance(place, Path):
        yield ProposedVersion(place)
        return
    with TemporaryDirectory(prefix="gateway-propose-") as made:
        folder = Path(made)
        with _shown("fetching") as progress:
            if address:
                path = download(place, folder, max_bytes=max_bytes, sha256=sha256, progress=progress)
                found = ProposedVersion(path, shown_address(place))
            else:
                server = registry_at(registry, settings.registry.mlflow if settings.registry else None)
                folder /= "version"
                path, origin = fetch_registered(place, server, folder, max_bytes=max_bytes, progress=progress)
                found = ProposedVersion(path, origin)
        yield found


@contextmanager
def _shown(what: str) -> Iterator[Progress]:
    with progress_bar(Console(stderr=True)) as bar:
        task = bar.add_task(what, total=None)

        def progress(done: int, size: int | None) -> None:
            bar.update(task, completed=done, total=size)

        yield progress
