"""The routing file of a gateway that serves mounted models: nobody has to bring one.

If the state folder remembers nothing, a missing file is written, with the highest mounted version of each model as
stable; never a stopped one. As long as no such file has been accepted, the next start writes it anew. Later it is
edited only where a stable version was mounted once and has gone: another mounted version becomes stable, in an entry
if the model had none; or, if the whole model has gone, its entry goes, too. What a stop or a candidate forbids ends the
start with the remedy.
"""

import logging
import os
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Final

import orjson

from gateway.backends.repository import Repository
from gateway.control.config.file_snapshot import revision_of
from gateway.control.config.memory import ReleaseMemory, ReleaseMemoryFile
from gateway.control.config.mounted_memory import MountedMemory
from gateway.control.config.mounted_models import LinkedModels
from gateway.control.config.yaml_candidate import add_entry
from gateway.control.config.yaml_edit import remove_entries, set_stable
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.settings.routing import ReleaseSettings
from gateway.settings.routing_file import parse_routing, routing_text
from gateway.system.durable_files import replace_durably
from gateway.version_key import VersionKey

_HEADER: Final = """\
# The releases of the mounted models, as the first start found them. Edit it, or use gateway propose, weight, promote.
models:
"""
log: Final = logging.getLogger("gateway.control.config")


def prepare_routing(
    settings: GatewaySettings, linked: LinkedModels, stopped: AbstractSet[VersionKey], remembered: ReleaseMemory
) -> MountedMemory:
    """Write or edit the routing file as the module says; for a thread. Returns what to remember of the mount. Raises
    SettingsError if it cannot be written, or nothing may be served by it.
    """
    path = Path(os.path.realpath(settings.routing))  # a link to it stays
    content = _content(path)
    new = ReleaseMemoryFile(Path(settings.state)).is_empty
    if new and (not os.path.lexists(settings.routing) or _is_unaccepted(content, linked)):
        text = _first_text(linked, stopped).encode()
        if text != content:
            _write(path, text)
        return replace(linked.memory, routing=revision_of(text))
    if content is not None:
        _follow(path, content, linked, stopped, remembered, Repository(Path(settings.models.path)))
    return linked.memory


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:  # the start says why
        return None


def _is_unaccepted(content: bytes | None, linked: LinkedModels) -> bool:
    """Whether the file is what a start has written here that failed, perhaps since that version cannot be loaded."""
    return content is not None and revision_of(content) == linked.before.routing


def _first_text(linked: LinkedModels, stopped: AbstractSet[VersionKey]) -> str:
    highest = {model: free[-1] for model in linked.versions if (free := _free(model, linked, stopped))}
    if not highest:
        models = sorted({*linked.versions, *linked.problems})
        raise SettingsError("gateway.yaml", [f"models.mounted: {_why_none(model, linked)}" for model in models])
    entries = (f"  {orjson.dumps(model).decode()}:\n    stable: {number}\n" for model, number in highest.items())
    return _HEADER + "".join(entries)


def _free(model: str, linked: LinkedModels, stopped: AbstractSet[VersionKey]) -> list[int]:
    return [number for number in linked.versions.get(model, ()) if (model, number) not in stopped]


def _why_none(model: str, linked: LinkedModels) -> str:
    numbers = linked.versions.get(model, [])
    stopped = [f"version {number} of '{model}' is stopped; number the new file otherwise" for number in numbers]
    return "; ".join([*stopped, *linked.problems.get(model, [])])


def _follow(
    path: Path,
    content: bytes,
    linked: LinkedModels,
    stopped: AbstractSet[VersionKey],
    remembered: ReleaseMemory,
    repository: Repository,
) -> None:
    try:
        mark, text = routing_text(content, str(path))
        named = parse_routing(content, str(path)).models
    except SettingsError:  # the start says why
        return
    for model, number in linked.removed:
        log.warning("version %d of '%s'%s is not mounted any more", number, model, _role(named, model, number, path))
    gone, problems = [], list[str]()
    for model, release in ({name: one.release() for name, one in remembered.items()} | named).items():
        free = _free(model, linked, stopped)
        there = repository.versions(model)
        if release.stable in there:
            _tell_unused(model, release, free, path)
        elif (model, release.stable) not in linked.before.digests:
            continue  # a mistake in the file: the start says so
        elif problem := _why_not(model, release, free, there, linked):
            problems.append(
                f"models.{model}: stable version {release.stable} is not mounted any more, and {problem}; or name a"
                f" version that is there as stable, in {path}"
            )
        elif free:
            text = _with_stable(text, model, free[-1], path, is_named=model in named)
            log.warning(
                "%s: version %d of '%s', its stable version, is not mounted any more; now it is %d",
                path, release.stable, model, free[-1],
            )  # fmt: skip
        elif model in named:
            gone.append(model)
            log.warning("%s: '%s' is not mounted any more; its entry is removed", path, model)
    if problems:
        raise SettingsError("gateway.yaml", problems)
    if gone:
        whole = len(gone) == len(named)
        text = _first_text(linked, stopped) if whole else remove_entries(text, tuple(gone), str(path))
    if mark + text.encode() != content:
        _write(path, mark + text.encode())


def _with_stable(text: str, model: str, version: int, path: Path, *, is_named: bool) -> str:
    if is_named:
        return set_stable(text, model, version, str(path))
    return add_entry(text, model, {"stable": version}, str(path))


def _role(releases: Mapping[str, ReleaseSettings], model: str, number: int, path: Path) -> str:
    release = releases.get(model)
    roles = {release.stable: "stable", release.candidate: "candidate"} if release else {}
    return f", {roles[number]} by {path}," if number in roles else ""


def _tell_unused(model: str, release: ReleaseSettings, free: list[int], path: Path) -> None:
    if free and free[-1] not in (release.stable, release.candidate):
        log.warning(
            "version %d of '%s' is mounted and not served: %s names version %d; a new state folder would begin with the"
            " mounted one", free[-1], model, path, release.stable,
        )  # fmt: skip


def _why_not(model: str, release: ReleaseSettings, free: list[int], there: list[int], linked: LinkedModels) -> str:
    """Why no other version may become stable, and the model may not be dropped, by itself; empty if one of them may."""
    if linked.unread:
        return f"{linked.unread[0]}: mount that again"
    if release.candidate is not None:
        return f"its candidate {release.candidate} is not made stable by that: mount version {release.stable} again"
    if not free and (linked.versions.get(model) or linked.problems.get(model)):
        return _why_none(model, linked)
    if not free and there:
        return f"version {there[-1]}, which is in the repository, was never promoted"
    return ""


def _write(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_durably(path, content)
    except OSError as error:
        problem = f"routing: {path} cannot be written: {error.strerror}; name the mounted versions in it"
        raise SettingsError("gateway.yaml", [problem]) from None
