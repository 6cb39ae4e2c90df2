"""The routing file of a gateway that serves mounted models: nobody has to bring one.

If the state folder remembers nothing, a missing file is written, with the highest mounted version of each model as
stable. Later it is edited only where it names a stable version that has gone from the mounted folder: somebody has
replaced the versions there, and wants those to be served.
"""

import logging
import os
from pathlib import Path
from typing import Final

import orjson

from gateway.control.config.memory import ReleaseMemoryFile
from gateway.control.config.mounted_models import LinkedModels
from gateway.control.config.yaml_edit import set_stable
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing_file import parse_routing, routing_text
from gateway.system.durable_files import replace_durably

_HEADER: Final = """\
# The releases of the mounted models, as the first start found them. Edit it, or use gateway propose, weight, promote.
models:
"""
log: Final = logging.getLogger("gateway.control.config")


def prepare_routing(settings: GatewaySettings, linked: LinkedModels) -> None:
    """Write or edit the routing file as the module says; for a thread. Raises SettingsError if it cannot be written."""
    path = Path(settings.routing)
    if not linked.versions:
        return
    if os.path.lexists(path):
        _follow(path, Path(settings.models.path), linked)
    elif ReleaseMemoryFile(Path(settings.state)).text() is None:
        _write(path, _HEADER + "".join(map(_entry, linked.versions.items())))


def _entry(item: tuple[str, list[int]]) -> str:
    model, versions = item
    return f"  {orjson.dumps(model).decode()}:\n    stable: {versions[-1]}\n"


def _follow(path: Path, repository: Path, linked: LinkedModels) -> None:
    try:
        content = path.read_bytes()
        mark, text = routing_text(content, str(path))
        releases = parse_routing(content, str(path)).models
        for model, versions in linked.versions.items():
            release, highest = releases.get(model), versions[-1]
            if release is None or highest in (release.stable, release.candidate):
                continue  # of a candidate whose stable version is gone the start says so: it may be stopped
            if (repository / model / str(release.stable)).is_dir():
                log.warning(
                    "version %d of '%s' is mounted and not served: %s names version %d; a new state folder would begin"
                    " with the mounted one", highest, model, path, release.stable,
                )  # fmt: skip
                continue
            text = set_stable(text, model, highest, str(path))
            log.warning(
                "%s: version %d of '%s', its stable version, is not mounted any more; now it is %d",
                path, release.stable, model, highest,
            )  # fmt: skip
    except (OSError, SettingsError):  # the start says why
        return
    if mark + text.encode() != content:
        _write(path, text, mark)


def _write(path: Path, text: str, mark: bytes = b"") -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, mark + text.encode())
    except OSError as error:
        problem = f"routing: {path} cannot be written: {error.strerror}; name the mounted versions in it"
        raise SettingsError("gateway.yaml", [problem]) from None
