"""The processes of the versions that run in one of their own: which there should be, and what ends them.

A candidate, and whatever runs on a GPU, gets a process unless model.yaml says otherwise (`isolation`). Where latencies
are compared, so does stable, for as many requests as the candidate gets: its baseline.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

from gateway.backends.content_verdicts import Contents
from gateway.backends.repository import Repository
from gateway.control.metrics.process_metrics import ProcessStatus
from gateway.control.pool.process_template import ProcessTemplate
from gateway.control.pool.version_process import ProcessState, Role, VersionProcess, Wanted
from gateway.errors import GatewayError, SettingsError
from gateway.messages import ConfigGeneration, ProcessSockets
from gateway.settings.gateway import GatewaySettings
from gateway.settings.model import ModelSettings
from gateway.settings.providers import CPU
from gateway.settings.routing import ReleaseSettings, RoutingSettings
from gateway.version_key import VersionKey

CLOSED_WITHIN_S: Final = 300.0  # a process that no worker needs any more: the calls in it have long been answered
STEP_S: Final = 0.2  # what one check adds to a silence at most: a pause of control or of the machine is no silence
MEASURED_AT_ONCE: Final = 4  # processes whose memory is looked at in one check: each takes 20 µs


class VersionProcesses:
    """Runs on control's loop. `died(process, why)` is called when a process has died that had loaded its version.

    `name`: of the gateway's memory files, for the sockets. `clock` in seconds.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        settings: GatewaySettings,
        died: Callable[[VersionProcess, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._repository = repository
        self._contents = Contents(repository.path)
        self._name = name
        self._template = ProcessTemplate()
        self._timeout_s = settings.server.heartbeat_timeout
        self._load_timeout_s = settings.models.load_timeout
        self._died = died
        self._clock = clock
        self._looked_s = clock()
        self._turn = 0  # the process whose memory is looked at next
        self._processes: dict[str, VersionProcess] = {}  # by socket
        self._of: dict[tuple[VersionKey, Role], list[VersionProcess]] = {}  # the same; the last one is the newest
        self._closed: list[VersionProcess] = []  # they end when no worker is connected any more
        self._settings: dict[str, tuple[object, ModelSettings]] = {}

    def __iter__(self) -> Iterator[VersionProcess]:
        return iter(self._processes.values())

    def status(self) -> list[ProcessStatus]:
        """What is known of each process; from any thread."""
        return list(map(_status, list(self._processes.values())))

    def of(self, name: str, version: int) -> ProcessStatus | None:
        """The process that runs this version in force; None if it runs in the workers."""
        for role in (Role.CANDIDATE, Role.STABLE):
            if found := self._of.get(((name, version), role)):
                return _status(found[-1])
        return None

    def wanted(self, routing: RoutingSettings) -> list[Wanted]:
        """The processes that `routing` needs; for a thread, since it reads files."""
        wanted = []
        for name, release in routing.models.items():
            settings = self._model_settings(name)
            for role, number in _roles(settings, release).items():
                if self._repository.is_remote(name, number):
                    continue
                behind = role is Role.CANDIDATE and not release.compares_latency
                content = self._contents.fingerprint((name, number))
                wanted.append(Wanted((name, number), role, behind, settings.memory, content))
        return wanted

    def assigned(self, wanted: Iterable[Wanted], anew: Collection[str] = ()) -> ProcessSockets:
        """The sockets of these processes: of those that there are, or that are started now.

        A process goes on with what it has loaded, whatever its files hold by now, except for the models that are loaded
        `anew`; one that failed to load its version is replaced.
        """
        versions: dict[VersionKey, str] = {}
        baselines: dict[str, str] = {}
        for one in wanted:
            where = self._found(one, one.key[0] in anew) or self._started(one)
            if one.role is Role.BASELINE:
                baselines[one.key[0]] = where
            else:
                versions[one.key] = where
        return ProcessSockets(versions, baselines)

    async def prepared(
        self, routing: RoutingSettings, anew: Collection[str] = ()
    ) -> tuple[ProcessSockets, dict[VersionKey, str]]:
        """Have the processes that `routing` needs, and wait until each has loaded its version. Returns their sockets,
        and the errors of those that could not.
        """
        sockets = self.assigned(await asyncio.to_thread(self.wanted, routing), anew)
        processes = [self._processes[where] for where in sockets.all()]
        if pending := [process.settled for process in processes if not process.settled.done()]:
            await asyncio.wait(pending)
        return sockets, {
            process.wanted.key: error
            for process in processes
            if process.state is not ProcessState.READY
            and process.wanted.role is not Role.BASELINE
            and (error := process.settled.result())
        }

    def take_late(self, unavailable: Collection[VersionKey]) -> set[VersionKey]:
        """Those of the versions `unavailable` to some worker whose process is there by now; each start is told once."""
        late: set[VersionKey] = set()
        if not unavailable:
            return late
        for process in self._processes.values():
            ready = process.state is ProcessState.READY and process.wanted.key in unavailable
            if ready and process.told != process.starts:
                process.told = process.starts
                late.add(process.wanted.key)
        return late

    def sweep(self, plans: Iterable[ConfigGeneration]) -> None:
        """Close the processes that none of these generations needs."""
        used = {where for plan in plans for where in plan.sockets.all(besides=plan.unloaded)}
        for where in self._processes.keys() - used:
            process = self._processes.pop(where)
            process.close()
            self._of[process.wanted.key, process.wanted.role].remove(process)
            self._closed.append(process)

    def tick(self) -> None:
        """End processes that are silent, load for too long or take too much memory. Call often."""
        now_s = self._clock()
        step_s, self._looked_s = min(now_s - self._looked_s, STEP_S), now_s
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
            if time.monotonic() - process.closed_s > (CLOSED_WITHIN_S if process.state is ProcessState.READY else 1.0):
                process.kill("is not needed any more, and did not end")

    def _measure_some(self) -> None:
        processes = list(self._processes.values())
        for _ in range(min(MEASURED_AT_ONCE, len(processes))):
            self._turn = (self._turn + 1) % len(processes)
            process = processes[self._turn]
            process.measure_memory()
            if (limit := process.wanted.memory) is not None and process.memory_bytes > limit:
                process.kill(f"took more memory than model.yaml allows, {limit:,} bytes")

    async def close(self, within_s: float) -> None:
        """End all processes."""
        for process in self._processes.values():
            process.close()
        processes, self._processes = [*self._processes.values(), *self._closed], {}
        await asyncio.gather(*(process.ended(within_s) for process in processes))
        await self._template.close()

    def _started(self, wanted: Wanted) -> str:
        process = VersionProcess(wanted, self._repository.path, self._name, self._template, self._died)
        self._processes[process.where] = process
        self._of.setdefault((wanted.key, wanted.role), []).append(process)
        return process.where

    def _found(self, wanted: Wanted, anew: bool) -> str:
        for process in reversed(self._of.get((wanted.key, wanted.role), [])):
            same = wanted if anew else replace(wanted, content=process.wanted.content)
            if process.wanted == same and process.state is not ProcessState.FAILED:
                return process.where
        return ""

    def _model_settings(self, name: str) -> ModelSettings:
        """The model.yaml of a model, read again only if it has changed; the defaults if it cannot be read, which
        whoever loads the version will say.
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
                return ModelSettings()
        return known[1]


def _status(process: VersionProcess) -> ProcessStatus:
    wanted = process.wanted
    return ProcessStatus(*wanted.key, wanted.role, process.state, process.starts, process.memory_bytes)


def _roles(settings: ModelSettings, release: ReleaseSettings) -> dict[Role, int]:
    """Which versions of a model run in a process, and as what."""
    roles = {}
    if _isolated(settings, stable=True):
        roles[Role.STABLE] = release.stable
    if release.candidate is not None and _isolated(settings, stable=False):
        roles[Role.CANDIDATE] = release.candidate
        if release.compares_latency and Role.STABLE not in roles:
            roles[Role.BASELINE] = release.stable
    return roles


def _isolated(settings: ModelSettings, *, stable: bool) -> bool:
    if settings.isolation is not None:
        return settings.isolation == "process"
    return not stable or settings.providers[0] != CPU


def refuse(source: str, named: Collection[str], failed: Mapping[VersionKey, str]) -> None:
    """Raise SettingsError, which names the file `source`, if a version of a `named` model could not be loaded."""
    if problems := [
        f"models.{name}: version {number}: {why}" for (name, number), why in failed.items() if name in named
    ]:
        raise SettingsError(source, problems)
