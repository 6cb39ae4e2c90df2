"""Makes configuration generations: the models to serve, with a shared-memory slot for each version and release."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from gateway.control.config.resolve import ResolvedRouting
from gateway.control.release.decisions import DecisionLog
from gateway.messages import ConfigGeneration, ProcessSockets
from gateway.shm.slots import Slots
from gateway.shm.switchboard import Switchboard
from gateway.version_key import VersionKey


class GenerationFactory:
    """Makes ConfigGenerations. The stops of their candidates are on the switchboard before any worker reads a
    generation.
    """

    def __init__(self, versions: Slots, releases: Slots, board: Switchboard, decision_log: DecisionLog) -> None:
        self._versions = versions
        self._releases = releases
        self._board = board
        self._decision_log = decision_log

    def make(
        self,
        generation: int,
        resolved: ResolvedRouting,
        sockets: ProcessSockets,
        unavailable: Mapping[VersionKey, str] | None = None,
    ) -> ConfigGeneration:
        """A generation that serves what was resolved. Raises SettingsError if no slot is left."""
        versions: dict[VersionKey, int] = {}
        release_slots: dict[VersionKey, int] = {}
        for name, settings in sorted(resolved.routing.models.items()):
            versions[name, settings.stable] = self._versions.of(name, settings.stable)
            if settings.candidate is not None:
                key = name, settings.candidate
                versions[key] = self._versions.of(*key)
                slot = release_slots[key] = self._releases.of(*key)
                if self._decision_log.stopped(*key) is not None:
                    self._board.stop(slot)
        kept = dict(_kept(resolved, sockets))
        versions |= {key: self._versions.of(*key) for key in kept.items()}
        return ConfigGeneration(
            generation=generation,
            routing=resolved.routing,
            versions=versions,
            releases=release_slots,
            unavailable=dict(unavailable or {}),
            configured=resolved.configured,
            sockets=sockets,
            kept=kept,
        )

    def make_reload(
        self,
        name: str,
        before: ConfigGeneration,
        resolved: ResolvedRouting,
        sockets: ProcessSockets,
        unavailable: Mapping[VersionKey, str],
    ) -> ConfigGeneration:
        """The same generation, except that the model is reloaded from disk; other unloaded models stay unloaded."""
        loads = {**before.loads, name: before.loads.get(name, 0) + 1}
        config = self.make(before.generation, resolved, sockets, unavailable)
        return replace(config, unloaded=before.unloaded - {name}, loads=loads)


def _kept(resolved: ResolvedRouting, sockets: ProcessSockets) -> Iterator[VersionKey]:
    """The versions that were stable before a promotion that can be undone. Not those of models whose stable runs in a
    process of its own: on a GPU there may be no memory for both, and an undo starts the process again.
    """
    for name, one in resolved.memory.items():
        release = resolved.routing.models.get(name)
        if release is not None and one.undo is not None and (name, release.stable) not in sockets.versions:
            yield name, one.undo.stable


def without_unavailable_stables(config: ConfigGeneration) -> ConfigGeneration:
    """The generation for a worker that starts while no other serves: models whose stable version must not be loaded
    lose their entry, so that they do not keep the worker from serving the others.
    """
    lost = {name for name, release in config.routing.models.items() if (name, release.stable) in config.unavailable}
    return replace(config, configured=config.configured - lost)
