"""The repository's index: every version on disk, and whether it is served."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.backends.not_served import UnservedEntry
from gateway.backends.repository import Repository
from gateway.version_key import VersionKey
from gateway.worker.models.served_model import ServedModel

KEPT: Final = "not served: kept loaded, so that the promotion after it can be undone at once"


class VersionState(StrEnum):
    """The state of a version in the repository index."""

    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class IndexedVersion:
    """An entry of the index. `reason`: why the version is not served, or a warning about one that is, else ""."""

    name: str
    version: int
    state: VersionState
    reason: str


class ModelIndex:
    """The index of `repository`. `reasons`: the loader's reasons why versions are not served, kept up to date by it."""

    def __init__(self, repository: Repository, reasons: Mapping[VersionKey, str]) -> None:
        self._repository = repository
        self._reasons = reasons

    def entries(self, models: Mapping[str, ServedModel]) -> list[IndexedVersion]:
        """Every version on disk, and whether it is served."""
        return [
            self._entry(models.get(name), name, version)
            for name in self._known(models)
            for version in self._versions_of(models.get(name), name)
        ]

    def unserved_entries(self, models: Mapping[str, ServedModel]) -> list[UnservedEntry]:
        """Entries of the repository that look like a model or a version but are not among `entries`."""
        versions = {name: self._repository.versions(name) for name in self._known(models)}
        return [
            over
            for over in self._repository.unserved_entries()
            if over.version not in map(str, versions.get(over.name, ()))
        ]

    def _known(self, models: Mapping[str, ServedModel]) -> list[str]:
        return sorted({*self._repository.names(), *models, *(name for name, _ in self._reasons)})

    def _versions_of(self, model: ServedModel | None, name: str) -> list[int]:
        """The versions on disk, and those that are or should be served although their folders are gone."""
        served = model.versions if model is not None else ()
        missed = (version for model, version in self._reasons if model == name)
        return sorted({*self._repository.versions(name), *served, *missed})

    def _entry(self, served: ServedModel | None, name: str, version: int) -> IndexedVersion:
        if served is not None and version in served.versions:
            return IndexedVersion(name, version, VersionState.READY, served.versions[version].facts.warning)
        if served is not None and served.kept is not None and served.kept.number == version:
            return IndexedVersion(name, version, VersionState.UNAVAILABLE, KEPT)
        reason = (
            self._reasons.get((name, version))
            or self._repository.unserved_reason(name, version)
            or "not loaded: no release names this version"
        )
        return IndexedVersion(name, version, VersionState.UNAVAILABLE, reason)

    def failures(self) -> list[IndexedVersion]:
        """The versions that should be served and are not."""
        return [
            IndexedVersion(name, version, VersionState.UNAVAILABLE, reason)
            for (name, version), reason in sorted(self._reasons.items())
        ]
