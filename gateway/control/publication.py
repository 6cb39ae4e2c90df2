"""Applies a configuration generation in two phases: every worker loads it, then every worker switches."""

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from gateway.backends.trial import LoadResult
from gateway.backends.trial_cache import harmful
from gateway.control.class_names import LoadedClassNames
from gateway.control.config.acceptance import RoutingAcceptance, ValidatedRouting
from gateway.control.config.generations import GenerationFactory
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.pool.preparation import prepare_generation
from gateway.control.pool.version_processes import VersionProcesses, raise_if_failed
from gateway.control.pool.worker_pool import WorkerPool
from gateway.control.release.manager import ReleaseManager
from gateway.errors import SettingsError
from gateway.messages import Commit, Discard
from gateway.settings.routing import ReleaseSettings
from gateway.shm.switchboard import Switchboard

Note = Callable[[], object]  # records the decision of the command that made an edit


class PublishContext(Protocol):
    """What `publish` needs of the control plane."""

    pool: WorkerPool
    processes: VersionProcesses
    generations: GenerationFactory
    acceptance: RoutingAcceptance
    release_manager: ReleaseManager
    class_names: LoadedClassNames
    board: Switchboard
    routing_file: RoutingFileWatcher
    served: Mapping[str, ReleaseSettings]


async def publish(
    control: PublishContext, validated: ValidatedRouting, verdicts: Sequence[LoadResult], note: Note | None
) -> None:
    """Apply a generation in all workers or, if one of them cannot load it, in none. Raises SettingsError.

    Control's view is updated first, so that stops, guards and breakers know the new releases before any worker
    serves them.
    """
    served, source = validated.resolved.routing.models, str(control.routing_file.path)
    resolved = validated.resolved
    sockets, failed = await control.processes.prepare(resolved.routing)
    raise_if_failed(source, resolved.configured, failed)
    config = control.generations.make(control.pool.config.generation + 1, resolved, sockets, failed | harmful(verdicts))
    async with prepare_generation(control.pool, config, source, loads=bool(verdicts)) as handles:
        if errors := control.acceptance.stopped_since(validated):
            await control.pool.broadcast(Discard, handles)
            raise SettingsError(source, errors)
        control.pool.config, control.served = config, served
        control.release_manager.close_changed(served)
        control.release_manager.prepare(served, control.processes.declared)
        await control.acceptance.accept(validated, note)
        errors = await control.pool.broadcast(Commit, handles)
        control.release_manager.open_routes()
        control.class_names.put_in_force(served, control.processes.settings)
        for handle in handles:
            handle.config = config
        control.board.publish(config.generation)
        if errors:
            raise SettingsError(source, errors)
