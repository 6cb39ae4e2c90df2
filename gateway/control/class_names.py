"""The names of predicted classes, for people: those with which the workers have loaded a version."""

from collections.abc import Collection, Mapping, Sequence

from gateway.backends.repository import Repository
from gateway.errors import GatewayError
from gateway.records.value_bins import bin_names
from gateway.settings.model import ModelSettings, PredictionSettings
from gateway.settings.routing import ReleaseSettings
from gateway.version_key import VersionKey

ClassNames = Mapping[VersionKey, Sequence[str]]


class LoadedClassNames:
    """The names as model.yaml had them when a version was put in force, or its model was loaded again: workers keep it
    as they have loaded it, whatever is edited since. A candidate in a process of its own is loaded again when it
    becomes stable. Only a worker that was restarted has what is there now.

    `known`: by version, replaced as a whole; those of versions that are served no more, too.
    """

    def __init__(self) -> None:
        self.known: ClassNames = {}
        self._served: dict[VersionKey, str] = {}  # and where each runs

    def put_in_force(
        self,
        served: Mapping[str, ReleaseSettings],
        settings: Mapping[str, ModelSettings],
        reloaded: Collection[str] = (),
    ) -> None:
        """The workers serve these releases, whose models have these settings now. `reloaded`: models loaded again."""
        running = {
            (name, number): _place(settings.get(name), stable=number == release.stable)
            for name, release in served.items()
            for number in (release.stable, release.candidate)
            if number is not None
        }
        loaded = {key for key, place in running.items() if self._served.get(key) != place or key[0] in reloaded}
        self._served = running
        if loaded:
            self.known = {**self.known, **{key: _names(settings[key[0]]) for key in loaded if key[0] in settings}}


class ClassLabels:
    """The names to show. Of versions not served since the start, as model.yaml has them when first asked."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[VersionKey, Sequence[str]] = {}

    def adopt(self, loaded: ClassNames) -> None:
        """Show these: those of `LoadedClassNames`."""
        self._known.update(loaded)

    def of(self, name: str, version: int) -> Sequence[str]:
        """The labels in class order, or a regression's bins; empty if model.yaml has none or cannot be read now."""
        key = name, version
        if key not in self._known:
            try:
                self._known[key] = _names(self._repository.settings(name))
            except (GatewayError, OSError):  # it is being edited: try again at the next call
                return ()
        return self._known[key]


def _place(settings: ModelSettings | None, *, stable: bool) -> str:
    """Where a version runs: one that comes to another place is loaded there."""
    if settings is None or not settings.runs_in_process(stable=stable):
        return "workers"
    return "stable's process" if stable else "candidate's process"


def _names(settings: ModelSettings) -> Sequence[str]:
    prediction: PredictionSettings | None = settings.main_prediction
    if prediction is None:
        return ()
    return bin_names(prediction.range) if prediction.range else prediction.labels
