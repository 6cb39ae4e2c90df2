"""Converts where versions come from into JSON documents, in a process or thread that may wait for the disk."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, cast

from gateway.backends.provenance import Provenance, read_provenance
from gateway.backends.repository import Repository
from gateway.control.api.provenance_documents import OriginDocument, ProvenanceDocument, TrainingDocument
from gateway.version_key import VersionKey

REFRESH_S: Final = 60.0  # a version never changes, but what is said of it may be added later
ProvenanceOf = Callable[[str, int], Provenance]  # by model and version


def no_provenance(model: str, version: int) -> Provenance:
    """Know nothing of where versions come from."""
    return Provenance()


def provenance_document(provenance: Provenance) -> ProvenanceDocument:
    """The document of a version's provenance."""
    origin, training = provenance.origin, provenance.training
    linked: dict[str, Any] | None = None if origin is None else {**asdict(origin), "link": origin.link}
    return {
        "training": None if training is None else cast("TrainingDocument", asdict(training)),
        "origin": cast("OriginDocument | None", linked),
        "problems": list(provenance.problems),
    }


class ProvenanceCache:
    """The provenance of versions, read again once it is REFRESH_S old. `clock`: monotonic seconds."""

    def __init__(self, repository: Repository, clock: Callable[[], float] = time.monotonic) -> None:
        self._repository = repository
        self._clock = clock
        self._known: dict[VersionKey, tuple[float, Provenance]] = {}

    def of(self, name: str, version: int) -> Provenance:
        """The provenance of a version; may read the disk."""
        now_s = self._clock()
        read_s, found = self._known.get((name, version), (None, Provenance()))
        if read_s is None or now_s - read_s >= REFRESH_S:
            found = read_provenance(self._repository.folder_of(name, version))
            self._known[name, version] = now_s, found
        return found
