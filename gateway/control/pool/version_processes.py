"""The processes of versions that run outside the workers: which are needed, and when they are killed.

A candidate, and any version on a GPU, gets a process unless model.yaml says otherwise (`isolation`). If latencies are
compared, stable gets one too, the baseline, for as many requests as the candidate gets.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from gateway.backends.content_verdicts import ContentVerdicts
from gateway.backends.repository import Repository
from gateway.control.metrics.process_metrics import ProcessStatus
from gateway.control.pool.process_template import ProcessTemplate
from gateway.control.pool.version_process import ProcessSpec, ProcessState, Role, VersionProcess
from gateway.errors import GatewayError, SettingsError
from gateway.messages import ConfigGeneration, ProcessSockets
from gateway.settings.gateway import GatewaySettings
from gateway.settings.model import ModelSettings
from gateway.settings.routing import ReleaseSettings, RoutingSettings
from gateway.version_key import VersionKey

CLOSE_TIMEOUT_S: Final = 300.0  # for a closed process to end: by then all calls in it have been answered
MAX_STEP_S: Final = 0.2  # the most that one tick adds to a silence: a pause of control or of the machine does not count
MEASUREMENTS_PER_TICK: Final = 4  # processes whose memory is measured in one tick, each in 20 µs


class VersionProcesses:
    """Runs on control's loop. `on_death(process, why)` is called when a process dies that had loaded its version.

    `name`: of the gateway's memory files, used in the sockets' addresses. `clock`: in seconds. `settings`: of
    each model, as `specs` has last read them.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        settings: GatewaySettings,
        on_death: Callable[[VersionProcess, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._verdicts = ContentVerdicts(repository.path)
        self._name = name
        self._template = ProcessTemplate()
        self._timeout_s = settings.server.heartbeat_timeout
        self._load_timeout_s = settings.models.load_timeout
        self._on_death = on_death
        self._clock = clock
        self._checked_s = clock()
        self._next_measured = 0  # index of the process whose memory is measured next
        self._processes: dict[str, VersionProcess] = {}  # by address
        self._by_key: dict[tuple[VersionKey, Role], list[VersionProcess]] = {}  # the same; the newest is last
        self._closed: list[VersionProcess] = []  # they end when no worker is connected any more
        self._settings: dict[str, tuple[object, ModelSettings]] = {}
        self.settings: Mapping[str, ModelSettings] = {}

    @property
    def declared(self) -> dict[str, frozenset[str]]:
        """The business metrics that each model's settings name."""
        return {name: settings.declared_metrics for name, settings in self.settings.items()}

    def __iter__(self) -> Iterator[VersionProcess]:
        return iter(self._processes.values())

    def statuses(self) -> list[ProcessStatus]:
        """The status of each process; for any thread."""
        return list(map(_status, list(self._processes.values())))

    def status_of(self, name: str, version: int) -> ProcessStatus | None:
        """The process that serves this version; None if it runs in the workers."""
        for role in (Role.CANDIDATE, Role.STABLE):
            if found := self._by_key.get(((name, version), role)):
                return _status(found[-1])
        return None

    def specs(self, routing: RoutingSettings) -> list[ProcessSpec]:
        """The processes that `routing` needs; for a thread, since it reads files."""
        specs, found = [], {}
        for name, release in routing.models.items():
            settings = found[name] = self._model_settings(name)
            for role, number in self._roles(name, settings, release).items():
                low_priority = role is Role.CANDIDATE and not release.latency_compared
                fingerprint = self._verdicts.fingerprint((name, number))
                specs.append(ProcessSpec((name, number), role, low_priority, settings.memory, fingerprint))
        self.settings = found
        return specs

    def assign_sockets(self, specs: Iterable[ProcessSpec], reload: Collection[str] = ()) -> ProcessSockets:
        """Return the addresses of these processes; those that do not exist are started.

        A process keeps the version as it loaded it even if the files have changed since, except for the models in
        `reload`. A process that failed to load its version is replaced.
        """
        versions: dict[VersionKey, str] = {}
        baselines: dict[str, str] = {}
        for spec in specs:
            address = self._find(spec, spec.key[0] in reload) or self._start(spec)
            if spec.role is Role.BASELINE:
                baselines[spec.key[0]] = address
            else:
                versions[spec.key] = address
        return ProcessSockets(versions, baselines)

    async def prepare(
        self, routing: RoutingSettings, reload: Collection[str] = ()
    ) -> tuple[ProcessSockets, dict[VersionKey, str]]:
        """Start the processes that `routing` needs and that do not exist, and wait until each has loaded its version or
        failed. Return their addresses, and the errors of those that failed.
        """
        sockets = self.assign_sockets(await asyncio.to_thread(self.specs, routing), reload)
        processes = [self._processes[address] for address in sockets.all()]
        if pending := [process.first_load for process in processes if not process.first_load.done()]:
            await asyncio.wait(pending)
        return sockets, {
            process.spec.key: error
            for process in processes
            if process.state is not ProcessState.READY
            and process.spec.role is not Role.BASELINE
            and (error := process.first_load.result())
        }

    def take_newly_ready(self, unavailable: Collection[VersionKey]) -> set[VersionKey]:
        """Return the versions in `unavailable` whose process has become ready; each start is reported once."""
        newly_ready: set[VersionKey] = set()
        if not unavailable:
            return newly_ready
        for process in self._processes.values():
            ready = process.state is ProcessState.READY and process.spec.key in unavailable
            if ready and process.reported_start != process.starts:
                process.reported_start = process.starts
                newly_ready.add(process.spec.key)
        return newly_ready

    def close_unused(self, generations: Iterable[ConfigGeneration]) -> None:
        """Close the processes that none of these generations needs."""
        used = {address for one in generations for address in one.sockets.all(besides=one.unloaded)}
        for address in self._processes.keys() - used:
            process = self._processes.pop(address)
            process.close()
            self._by_key[process.spec.key, process.spec.role].remove(process)
            self._closed.append(process)

    def tick(self) -> None:
        """Kill processes that are silent, take too long to load or too much memory. Call often."""
        now_s = self._clock()
        step_s, self._checked_s = min(now_s - self._checked_s, MAX_STEP_S), now_s
        for process in self._processes.values():
            if process.pid is None:
                continue
            process.silent_s += step_s
            loading = process.state is ProcessState.STARTING
            if process.silent_s >= (self._load_timeout_s if loading else self._timeout_s):
                process.kill(
                    f"had not loaded it within models.load_timeout, {self._load_timeout_s:g} s"
                    if loading
                    else f"has shown no sign of life for {self._timeout_s:g} s"
                )
        self._measure_some()
        self._closed = [process for process in self._closed if not process.has_ended()]
        for process in self._closed:
            if time.monotonic() - process.closed_s > (CLOSE_TIMEOUT_S if process.state is ProcessState.READY else 1.0):
                process.kill("is no longer needed, and did not end")

    def _measure_some(self) -> None:
        processes = list(self._processes.values())
        for _ in range(min(MEASUREMENTS_PER_TICK, len(processes))):
            self._next_measured = (self._next_measured + 1) % len(processes)
            process = processes[self._next_measured]
            process.measure_memory()
            if (limit := process.spec.memory_limit_bytes) is not None and process.memory_bytes > limit:
                process.kill(f"took more memory than model.yaml allows, {limit:,} bytes")

    async def close(self, within_s: float) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()
        processes, self._processes = [*self._processes.values(), *self._closed], {}
        await asyncio.gather(*(process.wait_ended(within_s) for process in processes))
        await self._template.close()

    def _start(self, spec: ProcessSpec) -> str:
        process = VersionProcess(spec, self._repository.path, self._name, self._template, self._on_death)
        self._processes[process.address] = process
        self._by_key.setdefault((spec.key, spec.role), []).append(process)
        return process.address

    def _find(self, spec: ProcessSpec, reload: bool) -> str:
        for process in reversed(self._by_key.get((spec.key, spec.role), [])):
            same = spec if reload else replace(spec, fingerprint=process.spec.fingerprint)
            if process.spec == same and process.state is not ProcessState.FAILED:
                return process.address
        return ""

    def _roles(self, name: str, settings: ModelSettings, release: ReleaseSettings) -> dict[Role, int]:
        """The versions of a model that run in a process, by role; none that another server runs."""
        roles = {}
        stable, candidate = release.stable, release.candidate
        here = {number for number in (stable, candidate) if number and not self._repository.is_remote(name, number)}
        if stable in here and settings.runs_in_process(stable=True):
            roles[Role.STABLE] = stable
        if candidate in here and candidate is not None and settings.runs_in_process(stable=False):
            roles[Role.CANDIDATE] = candidate
            if release.latency_compared and stable in here and Role.STABLE not in roles:
                roles[Role.BASELINE] = stable
        return roles

    def _model_settings(self, name: str) -> ModelSettings:
        """The model.yaml of a model, read again only if it has changed. If it has a mistake, as it was before, or the
        defaults, which loading the version reports.
        """
        try:
            found = (self._repository.path / name / "model.yaml").stat()
            seen: object = (found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        except OSError:
            return ModelSettings()
        known = self._settings.get(name)
        if known is None or known[0] != seen:
            try:
                known = self._settings[name] = seen, self._repository.settings(name)
            except GatewayError:
                return known[1] if known is not None else ModelSettings()
        return known[1]


def _status(process: VersionProcess) -> ProcessStatus:
    spec = process.spec
    return ProcessStatus(*spec.key, spec.role, process.state, process.starts, process.memory_bytes)


def raise_if_failed(source: str, configured: Collection[str], failed: Mapping[VersionKey, str]) -> None:
    """Raise SettingsError, which names the file `source`, if a version of a `configured` model failed to load."""
    if problems := [
        f"models.{name}: version {number}: {why}" for (name, number), why in failed.items() if name in configured
    ]:
        raise SettingsError(source, problems)
