"""One model in service: its release, the versions that it names, what stops the candidate, and what requests need."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from gateway.backends.version import ModelVersion
from gateway.records.line import constant_part
from gateway.records.token import encoded_names
from gateway.routing.release import DEFAULT_ROUTE, PINNED_ROUTE, Decision, Release
from gateway.settings.guards import GuardsSettings, RescueSettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.tally import UNSTRATIFIED
from gateway.worker.models.breaker import Breaker
from gateway.worker.models.shared_state import SharedState
from gateway.worker.models.time_budget import TimeBudget

NEVER_NS: Final = 2**63 - 1


class ServedModel:
    """One model in service: its release, the versions that the release names, and what stops the candidate."""

    __slots__ = (
        "_constants", "_generation", "baseline", "breaker", "candidate", "compared", "failures_compared", "header_keys",
        "kept", "mirror_ppm", "modality", "name", "names", "overridable", "release", "rescue_after_ns", "slow_after_ns",
        "stable", "strata", "switch", "time_budget", "versions",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        settings: ReleaseSettings,
        versions: Mapping[int, ModelVersion],
        shared_state: SharedState,
        generation: int,
        kept: ModelVersion | None = None,
    ) -> None:
        release = Release(name, settings)
        guards = settings.guards or GuardsSettings()
        routes = [route.name for route in release.routes]
        self.name = name
        self.release = release
        self.versions = versions
        self.kept = kept  # stable before the last promotion: gets no requests, and is ready for an undo
        self.stable = versions[release.stable]
        self.baseline = self.stable.baseline
        self.candidate = versions[release.candidate or release.stable]  # stable if there is none
        self.modality = self.stable.facts.settings.modality
        self.header_keys = tuple((header, header.encode()) for header in sorted(release.headers))
        self.switch = shared_state.switch(name, release.candidate)
        self.switch.on_weights_changed(release.set_weights, len(release.live_routes))
        self.breaker = Breaker(guards.breaker.consecutive_failures)
        self.rescue_after_ns = int((settings.rescue or RescueSettings()).timeout * 1e9)
        self.slow_after_ns = _slow_after_ns(guards)
        self.time_budget = TimeBudget(self.stable.recent_latency, self.rescue_after_ns)
        self.compared = release.candidate is not None
        self.overridable = self.compared and bool(self.stable.signature.initializers)
        self.failures_compared = settings.failures_compared
        self.mirror_ppm = round(settings.mirror.weight * 10_000) if settings.mirror and release.candidate else 0
        self.names = {route: encoded_names(name, route) for route in (*routes, DEFAULT_ROUTE, PINNED_ROUTE)}
        self.strata = {route: index for index, route in enumerate(routes[:UNSTRATIFIED])}
        self._generation = generation
        self._constants: dict[tuple[str, str, int, float, int], bytes] = {}

    def all_versions(self) -> Mapping[int, ModelVersion]:
        """The versions by number, with the one that is kept for an undo."""
        return self.versions if self.kept is None else {**self.versions, self.kept.number: self.kept}

    def let_go(self, settings: ReleaseSettings) -> Iterator[ModelVersion]:
        """Keep no version for an undo, unless `settings` name it; yields it, to be closed."""
        if self.kept is not None and self.kept.number not in (settings.stable, settings.candidate):
            yield self.kept
            self.kept = None

    def constant(self, decision: Decision) -> bytes:
        """The part of a record that is the same for all requests with this decision, encoded."""
        key = decision.route, decision.variant, decision.weight_ppm, decision.propensity, decision.version
        found = self._constants.get(key)
        if found is None:
            version = self.versions[decision.version]
            found = self._constants[key] = constant_part(
                model=self.name,
                sha256=version.facts.sha256,
                salt=self.release.salt,
                generation=self._generation,
                version=decision.version,
                variant=decision.variant,
                route=decision.route,
                weight_ppm=decision.weight_ppm,
                propensity=decision.propensity,
            )
        return found


def _slow_after_ns(guards: GuardsSettings) -> int:
    thresholds = [guard.threshold for guard in guards.comparisons if guard.metric == "slow_requests"]
    return int(min(filter(None, thresholds), default=NEVER_NS / 1e9) * 1e9)


def versions_of(models: Iterable[ServedModel]) -> set[ModelVersion]:
    """All versions of these models, with those that are kept for an undo."""
    return {version for served in models for version in served.all_versions().values()}
