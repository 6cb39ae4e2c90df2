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
    as they have loaded it, whatever is edited since. Only a worker that was restarted has what is there now.

    `known`: by version, replaced as a whole; those of versions that are served no more, too.
    """

    def __init__(self) -> None:
        self.known: ClassNames = {}
        self._served: frozenset[VersionKey] = frozenset()

    def put_in_force(
        self,
        served: Mapping[str, ReleaseSettings],
        settings: Mapping[str, ModelSettings],
        reloaded: Collection[str] = (),
    ) -> None:
        """The workers serve these releases, whose models have these settings now. `reloaded`: models loaded again."""
        keys = frozenset(
            (name, number)
            for name, release in served.items()
            for number in (release.stable, release.candidate)
            if number is not None
        )
        loaded = {key for key in keys if key not in self._served or key[0] in reloaded}
        self._served = keys
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


def _names(settings: ModelSettings) -> Sequence[str]:
    prediction: PredictionSettings | None = settings.main_prediction
    if prediction is None:
        return ()
    return bin_names(prediction.range) if prediction.range else prediction.labels
