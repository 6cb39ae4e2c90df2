"""Which versions must stay in the repository, since the routing file or the releases in force name them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from gateway.control.config.file_snapshot import snapshot
from gateway.errors import SettingsError
from gateway.settings.routing_file import parse_routing
from gateway.version_key import VersionKey


class _Release(Protocol):
    @property
    def stable(self) -> int: ...

    @property
    def candidate(self) -> int | None: ...


def named_by(routing_file: Path, in_force: Mapping[str, _Release]) -> Callable[[VersionKey], bool]:
    """Whether a version is in force, or named in the routing file as it is when this is called. A file that cannot be
    read may name any version.
    """
    source = str(routing_file)
    try:
        named: Mapping[str, _Release] = parse_routing(snapshot(routing_file).content_or_raise(source), source).models
    except SettingsError:
        return lambda key: True
    return lambda key: any(
        key[0] in releases and key[1] in (releases[key[0]].stable, releases[key[0]].candidate)
        for releases in (named, in_force)
    )
