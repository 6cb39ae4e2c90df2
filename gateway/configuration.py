"""The routing file as an order: watched, validated whole, tried in a scratch process. Nothing runs differently yet."""

import hashlib
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.deployment import releases
from gateway.errors import SettingsError
from gateway.serving.repository import Repository
from gateway.serving.scratch import Trial, Verdict, try_versions
from gateway.settings.load import load_routing
from gateway.settings.routing_settings import RoutingSettings
from gateway.settings.warnings import routing_warnings

log: Final = logging.getLogger("gateway.configuration")
MOST_TOLD: Final = 50  # warnings in the log at once
Key = tuple[str, int]  # a model and a version


@dataclass(slots=True)
class Status:
    """What came of the last attempt to load the file. `loaded_s`: when one last succeeded, in seconds since 1970."""

    revision: str
    loaded_s: float
    error: str = ""
    warnings: tuple[str, ...] = ()  # what the file in force says that cannot be meant


class Configuration:
    """The file at `path` and the versions that it names."""

    def __init__(self, path: Path, repository: Repository) -> None:
        self.path = path
        self.status = Status(revision_of(self._content()), time.time())
        self._repository = repository
        self._told: frozenset[str] = frozenset()
        self._tried = self._seen = self._fingerprint()

    def changed(self) -> bool:
        """Whether there is something new to try. To be asked every so often.

        A change counts when it has been the same twice: a file that is being written is not read half. After a failure
        the folders of the models count too: the version that was missing may have come.
        """
        before, self._seen = self._seen, self._fingerprint()
        return self._seen != self._tried and self._seen == before

    def read(self) -> RoutingSettings:
        """The file, validated; raises SettingsError."""
        self._tried = self._seen = self._fingerprint()
        return load_routing(self.path)  # where it has changed since the line above, it will be tried again

    def failed(self, error: Exception) -> None:
        """The last attempt came to nothing."""
        self.status.error = str(error)
        self._tried = self._seen = self._tried[0], self._fingerprint()[1]

    def succeeded(self) -> None:
        """What was read last is in force."""
        self.status = Status(revision_of(self._tried[0]), time.time(), warnings=self.status.warnings)
        self._tried = self._seen = self._tried[0], ()

    def warn(self, routing: RoutingSettings) -> None:
        """Log what in `routing`, now in force, cannot be meant, and what the repository passes over: each once."""
        self.status.warnings = tuple(routing_warnings(routing))
        passed_over = (f"{self._repository.path}/{over}" for over in self._repository.passed_over())
        found = [*(f"{self.path}: {warning}" for warning in self.status.warnings), *passed_over]
        new = [line for line in found if line not in self._told]
        for line in new[:MOST_TOLD]:
            log.warning("%s", line)
        if len(new) > MOST_TOLD:
            log.warning("%d more warnings of this kind; `gateway check` lists them", len(new) - MOST_TOLD)
        self._told = frozenset(found)

    def modality(self, model: str) -> str | None:
        """What the model's own settings say that its requests are; None where they do not."""
        return self._repository.settings(model).modality

    def trials(self, routing: RoutingSettings, loaded: set[Key]) -> list[Trial]:
        """The versions that `routing` needs and that are not loaded."""
        return [
            Trial(name, version, release.stable)
            for name, release in sorted(releases(self._repository, routing).items())
            for version in (release.stable, release.candidate)
            if version is not None and (name, version) not in loaded
        ]

    def try_out(self, routing: RoutingSettings, trials: list[Trial]) -> list[Verdict]:
        """The verdicts, from a scratch process: for a thread. Raises SettingsError where a routed version is broken."""
        verdicts = list(try_versions(self._repository.path, trials))
        broken = [
            f"models.{verdict.trial.name}: version {verdict.trial.version}: {verdict.error}"
            for verdict in verdicts
            if verdict.error and verdict.trial.name in routing.models
        ]
        if broken:
            raise SettingsError(str(self.path), broken)
        return verdicts

    def _content(self) -> bytes:
        try:
            return self.path.read_bytes()
        except OSError as error:
            return f"unreadable: {error}".encode()

    def _fingerprint(self) -> tuple[bytes, tuple[tuple[str, tuple[int, ...]], ...]]:
        return self._content(), self._folders() if self.status.error else ()

    def _folders(self) -> tuple[tuple[str, tuple[int, ...]], ...]:
        try:
            return tuple((name, tuple(self._repository.versions(name))) for name in self._repository.names())
        except OSError:  # gone for a moment, as while it is mounted or replaced
            return ()


def revision_of(content: bytes) -> str:
    """The short name of a file's content."""
    return hashlib.sha256(content).hexdigest()[:12]
