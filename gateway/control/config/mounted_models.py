"""Links the models of a read-only folder (`models.mounted`) into the repository, at each start.

Everything else then finds them in `models.path`, beside the versions that were proposed. A version's folder is linked
whole, since ONNX Runtime allows external weights only below the folder of the model file that a link leads to.

STATE/mounted.json   the links that were made, and the digest of each version, to tell a file that has been replaced
"""

import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.backends.digest import digest_of
from gateway.backends.mounted import SHARED_FILES, MountedModels, find_mounted
from gateway.backends.not_served import MODEL_FILE, REMOTE_FILE, unserved_reason
from gateway.control.release.decisions import DecisionLog
from gateway.errors import ModelUnavailable, SettingsError
from gateway.settings.gateway import GatewaySettings
from gateway.system.durable_files import replace_durably
from gateway.version_key import VersionKey

FILE: Final = "mounted.json"
ACTION: Final = "mounted"
_SHOWN_DIGITS: Final = 12
log: Final = logging.getLogger("gateway.control.config")


@dataclass(frozen=True, slots=True)
class ReplacedVersion:
    """A version whose mounted files are others than at the last start. `before`, `now`: their digests."""

    key: VersionKey
    before: str
    now: str

    def record(self, decision_log: DecisionLog) -> None:
        """Record it in the history, where the decisions that rest on the old file are."""
        reason = (
            f"the mounted files are others than before: {self.before[:_SHOWN_DIGITS]} -> {self.now[:_SHOWN_DIGITS]};"
            " evidence and ramp start over"
        )
        model, number = self.key
        log.warning("version %d of '%s': %s; a new number (--model-version) keeps them apart", number, model, reason)
        evidence = {"sha256": self.now, "before": self.before}
        decision_log.record(model, number, ACTION, "mount", reason, evidence)


@dataclass(frozen=True, slots=True)
class LinkedModels:
    """What was linked. `versions`: of each mounted model, those that can be served, ascending."""

    versions: dict[str, list[int]]
    replaced: tuple[ReplacedVersion, ...] = ()


def link_mounted(settings: GatewaySettings) -> LinkedModels:
    """Link the mounted models into the repository, which is created if it is missing; for a thread.

    Raises SettingsError if there is nothing to serve, or the repository cannot be written.
    """
    mounted = settings.models.mounted
    if mounted is None:
        return LinkedModels({})
    repository, source = Path(settings.models.path), Path(mounted.path).absolute()
    here, there = repository.resolve(), source.resolve()
    if here.is_relative_to(there) or there.is_relative_to(here):
        problem = (
            f"models.path: {repository} and the mounted {source} lie in each other; name another folder to write to"
        )
        raise SettingsError("gateway.yaml", [problem])
    found = find_mounted(mounted)
    try:
        return _Links(repository, source, Path(settings.state) / FILE).update(found)
    except OSError as error:
        raise SettingsError(
            "gateway.yaml",
            [f"models.path: the mounted models cannot be linked into {repository}: {error}; it must be writable"],
        ) from None


class _Links:
    def __init__(self, repository: Path, source: Path, file: Path) -> None:
        self._repository = repository
        self._source = source
        self._file = file
        before = _read(file)
        self._links_before, self._digests = before["links"], before["sha256"]
        self._links: dict[str, str] = {}

    def update(self, found: MountedModels) -> LinkedModels:
        digests, versions = dict[str, str](), dict[str, list[int]]()
        for model, files in found.files.items():
            folder = self._repository / model
            folder.mkdir(parents=True, exist_ok=True)
            for shared in (found.shared[model].absolute() / name for name in SHARED_FILES):
                if shared.is_file():
                    self._link(folder / shared.name, shared)
            for number, file in files.items():
                self._link_version(folder / str(number), file.absolute())
                digests[f"{model}/{number}"] = _digest(folder / str(number) / MODEL_FILE)
            versions[model] = [number for number in files if not unserved_reason(folder / str(number))]
            log.info("mounted in %s: %s, version %s", self._source, model, ", ".join(map(str, versions[model])))
        for link in self._repository.glob("*/*"):
            if self._is_own(link) and self._name(link) not in self._links:
                link.unlink()
                shutil.rmtree(_renamed_folder(link), ignore_errors=True)
        if not any(versions.values()):
            raise SettingsError("gateway.yaml", [f"models.mounted: {line}" for line in _reasons(found)])
        replaced = [
            ReplacedVersion(_key(name), before, digests[name])
            for name, before in self._digests.items()
            if digests.get(name) and before != digests[name]
        ]
        remembered = {name: digest for name, digest in {**self._digests, **digests}.items() if digest}
        replace_durably(self._file, orjson.dumps({"links": self._links, "sha256": remembered}))
        return LinkedModels({model: numbers for model, numbers in versions.items() if numbers}, tuple(replaced))

    def _link_version(self, link: Path, file: Path) -> None:
        if not os.path.lexists(link) or self._is_own(link):
            named = file.name in (MODEL_FILE, REMOTE_FILE)
            self._link(link, file.parent if named else self._renamed(link, file))
        elif _digest(link / MODEL_FILE) != _digest(file):
            log.error(
                "version %s of '%s' is served from %s; %s, of the same number, is another model: number it otherwise",
                link.name, link.parent.name, link, file,
            )  # fmt: skip

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

    def _is_own(self, link: Path) -> bool:
        """Whether the link was made here, perhaps by a start that was killed before it could note that."""
        if not link.is_symlink():
            return False
        target, noted = os.readlink(link), self._links_before.get(self._name(link))
        return target in (noted, _renamed_folder(link).name) or Path(target).is_relative_to(self._source)

    def _name(self, link: Path) -> str:
        return link.relative_to(self._repository).as_posix()

    def _renamed(self, link: Path, file: Path) -> Path:
        """A folder, relative to the link's, in which the model file has the name that it needs, with its weights."""
        folder = _renamed_folder(link)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for entry in file.parent.iterdir():
            (folder / (MODEL_FILE if entry.name == file.name else entry.name)).symlink_to(entry)
        return Path(folder.name)


def _renamed_folder(link: Path) -> Path:
    return link.with_name(f".mounted-{link.name}")


def _reasons(found: MountedModels) -> list[str]:
    files = (file for versions in found.files.values() for file in versions.values())
    return [f"{file.parent}: {unserved_reason(file.parent)}" for file in files]


def _key(name: str) -> VersionKey:
    model, _, number = name.rpartition("/")
    return model, int(number)


def _digest(file: Path) -> str:
    """The digest that records have as `model_sha256`; empty if the file cannot be read, or another server runs it."""
    try:
        return digest_of(file) if file.is_file() else ""
    except (OSError, ModelUnavailable):  # the load says why
        return ""


def _read(file: Path) -> dict[str, dict[str, str]]:
    """What was written at the last start; nothing if the file is missing or damaged."""
    try:
        document: Any = orjson.loads(file.read_bytes())
        found = {key: {str(name): str(value) for name, value in document[key].items()} for key in ("links", "sha256")}
        for name in found["sha256"]:
            _key(name)
        return found
    except FileNotFoundError:
        pass
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        log.error("%s is damaged (%s): mounted files that have been replaced since are not told", file, error)
    return {"links": {}, "sha256": {}}
