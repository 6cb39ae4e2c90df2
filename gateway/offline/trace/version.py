"""The version that answered a prediction, as it is on disk now, and where it comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from gateway.backends.digest import digest_of
from gateway.backends.provenance import DatasetManifest, Provenance, read_provenance
from gateway.backends.repository import Repository
from gateway.errors import GatewayError

NOTHING: Final = Provenance()


class OnDisk(StrEnum):
    """What became of a version's files."""

    INTACT = "intact"  # the model that answered
    MOVED = "moved"  # the model that answered, under another number
    OVERWRITTEN = "overwritten"  # another model under its number
    REMOVED = "removed"
    UNREADABLE = "unreadable"
    REMOTE = "remote"  # another server runs it, so that no file shows what ran
    UNPROVEN = "unproven"  # there, but no record says by its hash which model answered


class Role(StrEnum):
    """What a version had to do with a prediction."""

    ANSWERED = "answered"
    FAILED = "failed"  # and stable answered in its place
    MIRRORED = "mirrored"  # answered a copy of the request, which nobody saw


@dataclass(frozen=True, slots=True, kw_only=True)
class TracedVersion:
    """A version of a prediction. `sha256`: of the model as recorded, None if it is not known; `state` says whether it
    is still in `folder`, and `detail` what is there instead. `provenance`: nothing if another model is there.
    """

    role: Role
    model: str
    version: int
    sha256: str | None
    state: OnDisk
    folder: Path | None = None
    detail: str = ""
    provenance: Provenance = NOTHING
    dataset: DatasetManifest | None = None

    @property
    def dataset_problem(self) -> str:
        """Why the export that the version was trained on cannot be shown; empty if it can, or if there is none."""
        training = self.provenance.training
        if self.dataset is not None or training is None:
            return ""
        if training.dataset_manifest_sha256 is None and training.dataset_content_sha256 is None:
            return ""
        return (
            "the manifest of this export is not here: give the export's folder as --dataset; or keep a copy of its"
            " manifest as dataset.json beside the model"
        )


@dataclass(frozen=True, slots=True)
class VersionTracer:
    """Finds versions on disk."""

    repository: Repository

    def trace(
        self, role: Role, model: str, version: int, sha256: str | None, *, recorded: bool = True
    ) -> TracedVersion:
        """Find a version. Reads whole model files, to compare their hashes. `recorded`: whether a record says `sha256`,
        even if it is None, as for versions that another server runs.
        """
        state, number, detail = self._found(model, version, sha256, recorded)
        folder = None if number is None else self.repository.folder_of(model, number)
        usable = folder is not None and state not in (OnDisk.OVERWRITTEN, OnDisk.REMOVED, OnDisk.UNREADABLE)
        provenance = read_provenance(folder, with_dataset=True) if usable and folder is not None else NOTHING
        return TracedVersion(
            role=role,
            model=model,
            version=version,
            sha256=sha256,
            state=state,
            folder=folder,
            detail=detail,
            provenance=provenance,
            dataset=self._dataset(provenance),
        )

    def _dataset(self, provenance: Provenance) -> DatasetManifest | None:
        training, dataset = provenance.training, provenance.dataset
        return dataset if training is not None and dataset is not None and dataset.is_of(training) else None

    def _found(self, model: str, version: int, sha256: str | None, recorded: bool) -> tuple[OnDisk, int | None, str]:
        """What became of the version, the number under which something is there, and what is there instead."""
        versions = self.repository.versions(model)
        own = version if version in versions else None
        if own is not None and self.repository.is_remote(model, own) and sha256 is None:
            return OnDisk.REMOTE, own, "another server runs it, so no file proves which model answered"
        if sha256 is None:
            if own is None:
                return OnDisk.REMOVED, None, self._there(model, versions)
            why = "it ran on another server then" if recorded else "without the record, its hash is not known"
            return OnDisk.UNPROVEN, own, f"{why}: another model may be there now"
        own_digest, problem = "", ""
        for number in sorted(versions, key=lambda number: number != version):
            try:
                digest = digest_of(self.repository.model_file(model, number))
            except (GatewayError, OSError) as error:
                problem = problem or (str(error) if number == version else "")
                continue
            if digest == sha256:
                return (OnDisk.INTACT if number == version else OnDisk.MOVED), number, ""
            own_digest = own_digest or (digest if number == version else "")
        if own is None:
            return OnDisk.REMOVED, None, self._there(model, versions)
        if problem:
            return OnDisk.UNREADABLE, own, problem
        return OnDisk.OVERWRITTEN, own, f"another model is there now, sha256 {own_digest}"

    def _there(self, model: str, versions: Sequence[int]) -> str:
        listed = ", ".join(map(str, versions[-10:]))
        return f"{self.repository.path / model} has {'versions ' + listed if versions else 'no versions'} now"
