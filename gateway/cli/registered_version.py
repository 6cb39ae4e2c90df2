"""Fetches a version of MLflow's model registry by its URI, `models:/NAME@ALIAS` or `models:/NAME/VERSION`."""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.cli.download import Progress, shown_address
from gateway.cli.refusal import CommandError
from gateway.control.proposals.staged_version import StagedVersion
from gateway.errors import ModelUnavailable, RegistryError, RequestError
from gateway.registry.mlflow_client import MlflowClient, ModelVersion
from gateway.registry.mlflow_http import MlflowHttp
from gateway.registry.version_archive import version_archive
from gateway.settings.registry import MlflowSettings
from gateway.settings.units import LARGEST_VERSION
from gateway.system.printable import printable

SCHEME: Final = "models:"
URL_VARIABLES: Final = ("MLFLOW_REGISTRY_URI", "MLFLOW_TRACKING_URI")
_REFERENCE: Final = re.compile(r"models:/+(?P<name>[^/@:]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[1-9][0-9]{0,9}))")


@dataclass(frozen=True, slots=True)
class Registry:
    """An MLflow server. `user`: with the token as password, or empty: the token is a bearer's, or empty."""

    url: str
    token: str = ""
    user: str = ""
    ca: str | None = None


def registry_at(url: str | None, configured: MlflowSettings | None) -> Registry:
    """The server at `url`, or else the one that gateway.yaml names, or that of MLflow's own variables.

    The credentials are those of gateway.yaml for its server, and of MLflow's variables for any other. Raises
    CommandError.
    """
    if url is None and configured is not None:
        try:
            return Registry(configured.url, configured.token_value(), configured.user or "", configured.ca)
        except ValueError as error:
            raise CommandError(str(error)) from None
    address = url or next((os.environ[name] for name in URL_VARIABLES if os.environ.get(name)), None)
    if address is None:
        raise CommandError(f"which MLflow server? Name it with --registry or ${URL_VARIABLES[1]}")
    if not address.startswith(("http://", "https://")) or "@" in address:
        raise CommandError(
            f"{shown_address(address.rpartition('@')[2])!r} is not the address of an MLflow server, such as"
            " https://mlflow:5000; credentials belong into $MLFLOW_TRACKING_TOKEN, or _USERNAME and _PASSWORD"
        )
    user, password = os.environ.get("MLFLOW_TRACKING_USERNAME", ""), os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = password if user else os.environ.get("MLFLOW_TRACKING_TOKEN", "")
    return Registry(address, token, user, os.environ.get("MLFLOW_TRACKING_SERVER_CERT_PATH"))


def fetch_registered(
    reference: str, registry: Registry, folder: Path, *, max_bytes: int, progress: Progress
) -> tuple[Path, str]:
    """Fetch the version into `folder`, which does not exist yet, with its origin.json; returns the folder, and which
    version it is. `max_bytes`: of its files together. Raises CommandError.
    """
    named = _REFERENCE.fullmatch(reference)
    if named is None or int(named["version"] or 1) > LARGEST_VERSION:
        raise CommandError(
            f"{printable(reference)[:300]!r} names no registered version; write models:/NAME@ALIAS or"
            " models:/NAME/VERSION"
        )
    try:
        version = asyncio.run(_fetched(named, registry, folder, max_bytes, progress))
    except (RegistryError, ModelUnavailable, RequestError) as error:
        raise CommandError(str(error)) from None
    except OSError as error:
        raise CommandError(f"{printable(reference)} cannot be kept in {folder}: {error}") from None
    return folder, f"models:/{version.model}/{version.version} at {shown_address(registry.url)}"


async def _fetched(
    named: re.Match[str], registry: Registry, folder: Path, max_bytes: int, progress: Progress
) -> ModelVersion:
    client = MlflowClient(MlflowHttp(registry.url, token=registry.token, user=registry.user, ca=registry.ca))
    staged, total = StagedVersion(folder, max_bytes), 0
    try:
        number = int(named["version"]) if named["version"] else await _aliased(client, named["name"], named["alias"])
        version = await client.version(named["name"], number)
        async for piece in version_archive(client, version, max_bytes):
            staged.write(piece)
            total += len(piece)
            progress(total, None)
        staged.check_complete()
    finally:
        staged.close()
        await client.close()
    return version


async def _aliased(client: MlflowClient, name: str, alias: str) -> int:
    aliases = await client.aliases(name)
    if alias not in aliases:
        there = ", ".join(printable(one) for one in sorted(aliases)) or "none"
        raise CommandError(f"'{printable(name)}' has no alias '{printable(alias)}'; its aliases: {there}")
    return aliases[alias]
