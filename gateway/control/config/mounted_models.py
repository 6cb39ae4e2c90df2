"""Links the models of a read-only folder (`models.mounted`) into the repository, at each start.

Everything else then finds them in `models.path`, beside the versions that were proposed. A version's folder is linked
whole, since ONNX Runtime allows external weights only below the folder of the model file that a link leads to.
"""

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from gateway.backends.digest import digest_of, leads_out
from gateway.backends.mounted import SHARED_FILES, MountedModels, find_mounted
from gateway.backends.not_served import MODEL_FILE, REMOTE_FILE, is_version, unserved_reason
from gateway.backends.onnx_file import read_onnx_file
from gateway.control.config.mounted_memory import MountedMemory, read_mounted
from gateway.control.release.decisions import DecisionLog
from gateway.errors import ModelUnavailable, SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.version_key import VersionKey

ACTION: Final = "mounted"
_SHOWN_DIGITS: Final = 12
_RENAMED: Final = ".mounted-"
log: Final = logging.getLogger("gateway.control.config")


@dataclass(frozen=True, slots=True)
class ReplacedVersion:
    """A version whose mounted files are others than at the last start. `before`, `now`: their digests."""

    key: VersionKey
    before: str
    now: str

    def record(self, decision_log: DecisionLog, *, in_fleet: bool) -> None:
        """Record it in the history, where the decisions that rest on the old file are."""
        follows = (
            "evidence and ramp go on, as the fleet has them; give it a number of its own"
            if in_fleet
            else "evidence and ramp of a release with it start over"
        )
        before, now = self.before[:_SHOWN_DIGITS], self.now[:_SHOWN_DIGITS]
        reason = f"the mounted files are others than before: {before} -> {now}; {follows}"
        model, number = self.key
        log.warning("version %d of '%s': %s; a new number (--model-version) keeps them apart", number, model, reason)
        evidence = {"sha256": self.now, "before": self.before}
        decision_log.record(model, number, ACTION, "mount", reason, evidence)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkedModels:
    """What was linked. `versions`: of each model, those that serve what is mounted under their number, ascending.
    `problems`: why others do not, by model. `removed`: versions whose links are gone since the last start. `unread`:
    entries of the folder that cannot be read. `memory`: to be written; `before`: as it was.
    """

    versions: dict[str, list[int]] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)
    removed: tuple[VersionKey, ...] = ()
    unread: tuple[str, ...] = ()
    replaced: tuple[ReplacedVersion, ...] = ()
    memory: MountedMemory = field(default_factory=MountedMemory)
    before: MountedMemory = field(default_factory=MountedMemory)


def create_repository(settings: GatewaySettings) -> None:
    """Create the folder for the links, if it is missing. Raises SettingsError if it cannot be written, or lies in the
    mounted folder.
    """
    assert settings.models.mounted is not None
    repository, source = Path(settings.models.path), Path(settings.models.mounted.path).absolute()
    here, there = repository.resolve(), source.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        problem = f"{repository} and the mounted {source} lie in each other; name another folder to write to"
        raise SettingsError("gateway.yaml", [f"models.path: {problem}"])
    try:
        repository.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _not_linked(repository, error) from None


def link_mounted(settings: GatewaySettings) -> LinkedModels:
    """Link the mounted models into the repository; for a thread. It may be repeated until `memory` is written.

    Raises SettingsError if the folder holds no model, or the repository cannot be written.
    """
    assert settings.models.mounted is not None
    repository, mounted = Path(settings.models.path), settings.models.mounted
    before = read_mounted(Path(settings.state))
    found = find_mounted(mounted)
    for entry in found.unread:
        log.warning("models.mounted: %s", entry)
    try:
        return _Links(repository, Path(mounted.path).absolute(), before).update(found)
    except OSError as error:
        raise _not_linked(repository, error) from None


def _not_linked(repository: Path, error: OSError) -> SettingsError:
    problem = f"the mounted models cannot be linked into {repository}: {error}; it must be writable"
    return SettingsError("gateway.yaml", [f"models.path: {problem}"])


class _Links:
    def __init__(self, repository: Path, source: Path, before: MountedMemory) -> None:
        self._repository = repository
        self._source = source
        self._before = before
        self._links: dict[str, str] = {}

    def update(self, found: MountedModels) -> LinkedModels:
        digests: dict[VersionKey, str] = {}
        versions, problems = dict[str, list[int]](), dict[str, list[str]]()
        for model, files in found.files.items():
            folder = self._repository / model
            folder.mkdir(parents=True, exist_ok=True)
            for shared in (found.shared[model].absolute() / name for name in SHARED_FILES):
                if shared.is_file():
                    self._link(folder / shared.name, shared)
            for number, file in files.items():
                link = folder / str(number)
                problem = self._link_version(link, file.absolute())
                digests[model, number] = _digest(link / MODEL_FILE) or self._before.digests.get((model, number), "")
                if problem:
                    log.error("models.mounted: %s", problem)
                    problems.setdefault(model, []).append(problem)
                else:
                    versions.setdefault(model, []).append(number)
            served = ", ".join(map(str, versions.get(model, ()))) or "none that is served"
            log.info("mounted in %s: %s, version %s", self._source, model, served)
        self._remove_others()
        replaced = [
            ReplacedVersion(key, before, digests[key])
            for key, before in self._before.digests.items()
            if before and key in digests and before != digests[key]
        ]
        former = {key: digest for key, digest in self._before.digests.items() if key not in digests}
        return LinkedModels(
            versions=versions,
            problems=problems,
            removed=tuple(self._removed()),
            unread=found.unread,
            replaced=tuple(replaced),
            memory=MountedMemory(self._links, self._now(former) | digests, self._before.routing),
            before=self._before,
        )

    def _now(self, former: dict[VersionKey, str]) -> dict[VersionKey, str]:
        """The digests of numbers that are not mounted any more, perhaps of versions in the repository by now."""
        folders = {key: self._repository / key[0] / str(key[1]) for key in former}
        return {key: _digest(folders[key] / MODEL_FILE) or digest for key, digest in former.items()}

    def _link_version(self, link: Path, file: Path) -> str:
        """Link the version's folder unless the number is taken; returns why it does not serve the file, or nothing."""
        own = not os.path.lexists(link) or self._is_own(link)
        if own:
            named = file.name in (MODEL_FILE, REMOTE_FILE)
            self._link(link, file.parent if named else self._renamed(link, file))
        if reason := unserved_reason(link):
            where = file.parent if own else link
            remedy = "" if own else f"; remove {link}, and {file} is served"
            return f"{where}{'/' if reason.startswith(MODEL_FILE) else ' '}{reason}{remedy}"
        if own or _is_same(link, file):
            return ""
        return (
            f"version {link.name} of '{link.parent.name}' is served from {link}; {file}, of the same number, is another"
            " model: number it otherwise"
        )

    def _link(self, link: Path, target: Path) -> None:
        """Make the link, unless something else is there already."""
        if self._is_own(link):
            if os.readlink(link) != str(target):
                link.unlink()
                link.symlink_to(target)
        elif os.path.lexists(link):
            return
        else:
            link.symlink_to(target)
        self._links[self._name(link)] = str(target)

    def _remove_others(self) -> None:
        """Remove the links to what has gone, and folders of renamed models that no link needs."""
        emptied: set[Path] = set()
        for link in self._repository.glob("*/*"):
            if self._is_own(link) and self._name(link) not in self._links:
                log.warning("%s, a link to %s, is removed: that is not mounted any more", link, os.readlink(link))
                link.unlink()
                emptied.add(link.parent)
        for folder in self._repository.glob(f"*/{_RENAMED}*"):
            link = folder.with_name(folder.name.removeprefix(_RENAMED))
            if self._links.get(self._name(link)) != folder.name:
                shutil.rmtree(folder, ignore_errors=True)
        for model in emptied:
            with contextlib.suppress(OSError):
                model.rmdir()  # if nothing is left in it

    def _removed(self) -> Iterator[VersionKey]:
        for name in self._before.links:
            model, _, number = name.rpartition("/")
            if is_version(number) and not os.path.lexists(self._repository / name):
                yield model, int(number)

    def _is_own(self, link: Path) -> bool:
        """Whether the link was made here, perhaps by a start that was killed before it could note that."""
        if not link.is_symlink():
            return False
        target, noted = os.readlink(link), self._before.links.get(self._name(link))
        return target in (noted, _renamed_folder(link).name) or Path(target).is_relative_to(self._source)

    def _name(self, link: Path) -> str:
        return link.relative_to(self._repository).as_posix()

    def _renamed(self, link: Path, file: Path) -> Path:
        """A folder, relative to the link's, in which the model file has the name that it needs, with its weights, and
        what says where it comes from.
        """
        folder = _renamed_folder(link)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / MODEL_FILE).symlink_to(file)
        for name in {*_weights(file), *(beside.name for beside in file.parent.glob("*.json"))} - {MODEL_FILE}:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(file.parent / name)
        return Path(folder.name)


def _renamed_folder(link: Path) -> Path:
    return link.with_name(f"{_RENAMED}{link.name}")


def _weights(file: Path) -> list[str]:
    """The names of the model's external weights that may be read."""
    try:
        return [os.path.normpath(name) for name in read_onnx_file(file).external if not leads_out(name)]
    except (OSError, ModelUnavailable):  # the load says why
        return []


def _is_same(folder: Path, file: Path) -> bool:
    """Whether a version's folder holds the same as the mounted file."""
    if file.name == REMOTE_FILE:
        remote = folder / REMOTE_FILE
        return remote.is_file() and remote.read_bytes() == file.read_bytes()
    return (digest := _digest(file)) != "" and digest == _digest(folder / MODEL_FILE)


def _digest(file: Path) -> str:
    """The digest that records have as `model_sha256`; empty if the file cannot be read, or another server runs it."""
    try:
        return digest_of(file) if file.is_file() else ""
    except (OSError, ModelUnavailable):  # the load says why
        return ""
