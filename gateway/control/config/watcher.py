"""Watches the routing file: detects changes, reads it, and tries its versions in a scratch process. Applies nothing."""

import logging
import math
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.content_verdicts import ContentVerdicts
from gateway.backends.repository import Repository
from gateway.backends.trial import LoadResult, LoadTrial
from gateway.backends.trial_cache import TrialCache
from gateway.control.config.file_poll import FilePoll
from gateway.control.config.file_snapshot import FileStat, Snapshot, file_stat, snapshot
from gateway.errors import SettingsError
from gateway.settings.routing import RoutingSettings
from gateway.settings.warnings import routing_warnings
from gateway.version_key import VersionKey

log: Final = logging.getLogger("gateway.control.config")
MAX_LOGGED_WARNINGS: Final = 50  # warnings in the log at once
UNCHANGED_S: Final = 0.2  # a file changed within that time may be half written
EDITED_MEANWHILE: Final = "the routing file was edited again while this edit was being checked"
Fingerprint = tuple[Snapshot, tuple[tuple[str, tuple[int, ...]], ...]]  # the file, and the models' folders


@dataclass(slots=True)
class RoutingFileStatus:
    """The result of the last attempt to load the file. `loaded_s`: time of the last success, in seconds since 1970.

    `candidates_closed`: the gateway was started with a file that was refused, so the remembered releases are served,
    without candidates.
    """

    revision: str
    loaded_s: float
    error: str = ""
    warnings: tuple[str, ...] = ()  # likely mistakes in the file in force
    candidates_closed: bool = False


class RoutingFileWatcher:
    """Watches the file at `path` and the versions that it names. `clock`: monotonic seconds. `load_timeout_s`: for a
    load trial. `has_registry`: gateway.yaml names one.
    """

    def __init__(
        self,
        path: Path,
        repository: Repository,
        clock: Callable[[], float] = time.monotonic,
        load_timeout_s: float = math.inf,
        has_registry: bool = True,
    ) -> None:
        self.path = path
        self.trial_runner = TrialCache(ContentVerdicts(repository.path), load_timeout_s)
        self._repository = repository
        self._has_registry = has_registry
        self._logged: frozenset[str] = frozenset()
        self._clock = clock
        self._changed_s = -UNCHANGED_S
        first = snapshot(path)
        self.status = RoutingFileStatus(first.revision, time.time())
        self._last_tried: Fingerprint = (first, ())
        self._last_seen: Fingerprint = self._last_tried
        self._poll = FilePoll(path)

    def changed(self) -> bool:
        """Whether there is a new text to try. Poll it.

        A change counts only once the file has been unchanged for UNCHANGED_S, so that a half-written file is not read.
        After a failure, changes in the models' folders count too: a missing version may have been added.
        """
        before, self._last_seen = self._last_seen, self._fingerprint()
        if self._last_seen[0] != before[0]:
            self._changed_s = self._clock()
        new = (self._last_seen[0].content, self._last_seen[0].error, self._last_seen[1]) != (
            self._last_tried[0].content,
            self._last_tried[0].error,
            self._last_tried[1],
        )
        return new and self._last_seen == before and self._clock() - self._changed_s >= UNCHANGED_S

    def read(self, *, settled: bool = False) -> Snapshot | None:
        """Read the file. `settled`: return None if it is no longer as `changed` saw it."""
        now = snapshot(self.path)
        if settled and now != self._last_seen[0]:
            return None  # `changed` will see it, too
        self._last_tried = self._last_seen = now, self._folders() if self.status.error else ()
        return now

    def unread(self) -> FileStat | None:
        """The file's standing if it differs from the file read last, else None; for a thread."""
        now = file_stat(self.path)
        return None if now == self._last_tried[0].stat else now

    def record_failure(self, error: Exception) -> None:
        """Record that the last attempt failed."""
        self.status.error = str(error)
        self._last_tried = self._last_seen = self._last_tried[0], self._folders()

    def record_success(self) -> None:
        """Record that the text read last is in force."""
        self.status = RoutingFileStatus(self._last_tried[0].revision, time.time(), warnings=self.status.warnings)
        self._last_tried = self._last_seen = self._last_tried[0], ()

    def warn(self, routing: RoutingSettings) -> None:
        """Log the warnings about `routing`, now in force, and the files that the repository ignores: each once."""
        self.status.warnings = tuple(routing_warnings(routing, has_registry=self._has_registry))
        passed_over = (f"{self._repository.path}/{over}" for over in self._repository.unserved_entries())
        found = [*(f"{self.path}: {warning}" for warning in self.status.warnings), *passed_over]
        new = [line for line in found if line not in self._logged]
        for line in new[:MAX_LOGGED_WARNINGS]:
            log.warning("%s", line)
        if len(new) > MAX_LOGGED_WARNINGS:
            log.warning("%d more warnings of this kind; `gateway check` lists them", len(new) - MAX_LOGGED_WARNINGS)
        self._logged = frozenset(found)

    def mark_candidates_closed(self, revision: str) -> None:
        """Record, at the start, that the file was refused and the accepted `revision` is served without candidates."""
        self.status.revision, self.status.candidates_closed = revision, True

    def modality(self, model: str) -> str | None:
        """The modality in the model's own settings; None if they name none."""
        return self._repository.settings(model).modality

    def needed_trials(self, routing: RoutingSettings, loaded: AbstractSet[VersionKey]) -> list[LoadTrial]:
        """The versions that `routing` needs and that are not loaded."""
        return [
            LoadTrial(name, version, release.stable)
            for name, release in sorted(routing.models.items())
            for version in (release.stable, release.candidate)
            if version is not None and (name, version) not in loaded
        ]

    def run_trials(self, trials: list[LoadTrial], configured: AbstractSet[str]) -> list[LoadResult]:
        """Run the load trials in a scratch process and return their results; for a thread. Raises SettingsError if a
        version of one of the `configured` models does not load, and ModelUnavailable if the file is edited meanwhile:
        the trials are then obsolete, and may hang.
        """
        verdicts = self.trial_runner.run(trials, lambda: EDITED_MEANWHILE if self.changed() else "")
        broken = [
            f"models.{verdict.trial.name}: version {verdict.trial.version}: {verdict.error}"
            for verdict in verdicts
            if verdict.error and verdict.trial.name in configured
        ]
        if broken:
            raise SettingsError(str(self.path), broken)
        return verdicts

    def _fingerprint(self) -> Fingerprint:
        return self._poll.poll(self._clock(), self._last_seen[0]), self._folders() if self.status.error else ()

    def _folders(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        try:
            return tuple((name, tuple(self._repository.versions(name))) for name in self._repository.names())
        except OSError:  # missing for a moment, as while it is mounted or replaced
            return ()
